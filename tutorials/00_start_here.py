# %% [markdown]
# # 00 Start here
#
# **Goal.** See that everything is installed, know the one flag, and find your way in the source.
#
# These lessons build a *spiking language model* from the ground up. Each is a notebook that checks what it says:
# where the text claims something that can be computed, a cell computes it, and stops with an error if it is not so.
# Change a number and run the cell again; that is what they are for.

# %%
import importlib
import sys
from pathlib import Path

import numpy as np
from checks import lesson_00 as check
from lesson import show

import minispike
from minispike import Tensor, backend, viz

print(f"minispike {minispike.__version__}, NumPy {np.__version__}, Python {sys.version.split()[0]}")

# %% [markdown]
# If that failed, install the library with what the lessons need, in the folder that holds `pyproject.toml`:
#
#     pip install -e ".[tutorials]"
#
# ## The smallest thing it does
#
# A `Tensor` is an array that remembers how it was computed. `backward` asks how the result would change with each of
# its origins: the *gradient*.

# %%
x = Tensor([1.0, 2.0, 3.0], requires_grad=True)
y = (x * x).sum()
y.backward()
print("y =", y.item(), " its gradient:", x.grad.numpy())
assert x.grad.numpy().tolist() == [2.0, 4.0, 6.0], "the derivative of x^2 is 2x"

# %% [markdown]
# ## The one flag
#
# The same code runs on a GPU. `minispike.use("cupy")` says where *new* arrays are made; everything after that follows
# its inputs. On the command line it is `--backend cupy`, in the environment `MINISPIKE_BACKEND=cupy`. There is no
# silent way back: where there is no GPU, you are told.

# %%
try:
    with minispike.use("cupy"):
        print("this machine has a GPU:", type(Tensor([1.0]).array))
except minispike.MinispikeError as error:
    print("this machine has none, and says so:\n ", error)
print("in use:", backend.current())
assert backend.current() in ("numpy", "cupy")

# %% [markdown]
# ## How to read the source
#
# It is written to be read, from the bottom up: a file uses what is above it in this table, never what is below.

# %%
MAP = {
    "backend.py": "where arrays live: NumPy or CuPy",
    "graph.py": "what backward walks through",
    "tensor.py": "an array that remembers",
    "ops": "the operations, each beside its derivative",
    "gradcheck.py": "is a gradient right?",
    "nn": "layers, losses, the optimiser",
    "snn": "neurons, surrogates, spiking attention",
    "models": "BERT and SpikeBERT",
    "data": "text in, batches out",
    "distill": "what a student learns from its teacher",
    "train": "the loop, checkpoints, workers",
    "energy.py": "what an answer costs",
}
root = Path(minispike.__file__).parent


def lines(name: str) -> int:
    """Lines of a module or of a package."""
    path = root / name
    return sum(len(p.read_text().splitlines()) for p in ([path] if path.is_file() else sorted(path.rglob("*.py"))))


for name, what in MAP.items():
    print(f"{name:14} {lines(name):5} lines   {what}")
assert lines("graph.py") < 300, "the whole of backward fits on a few pages"

# %% [markdown]
# Sizes as a picture: most of a language model is not its network.

# %%
ax = viz.new_figure(6.0, 3.4).subplots()
sizes = {name: lines(name) for name in MAP}
ax.barh(list(sizes)[::-1], list(sizes.values())[::-1], color="#4c72b0")
ax.set_xlabel("lines of source")
show(ax)

# %% [markdown]
# Every public name says what it takes, gives and raises, in shapes and units. Ask for it where you stand.

# %%
from minispike.snn.neurons import lif

print(lif.__doc__)

# %% [markdown]
# An operation that is fast stands beside one that is readable, and ends in `_composed`. If you want to know what
# something *means*, read that one.

# %%
pairs = {
    "minispike.nn.functional": ["linear", "layer_norm", "normed_linear", "embedding"],
    "minispike.snn.neurons": ["lif"],
    "minispike.snn.attention": ["spiking_attention"],
    "minispike.snn.spiking_linear": ["spiking_linear"],
}
for module, names in pairs.items():
    for name in names:
        assert hasattr(importlib.import_module(module), f"{name}_composed"), name
print("each of them has its readable twin")

# %% [markdown]
# ## Break it
#
# Errors say what was expected, what came, and what to try. Provoke one.

# %%
try:
    Tensor(np.ones((2, 3))) @ Tensor(np.ones((2, 3)))
    said = ""
except minispike.MinispikeError as error:
    said = str(error)
print(said)
assert "(2, 3)" in said

# %% [markdown]
# ## Exercises
#
# From here on each lesson ends with a few. Replace `...` by your answer and run the cell below it. The answers are in
# the folder `solutions`; look there last.
#
# **1.** Use a Tensor to find the derivative of $x^3 - 2x$ at any $x$.


# %%
def derivative(x: float) -> float:
    """Of ``x^3 - 2x``, by backward."""
    return ...  # your code


# %%
check.derivative(derivative)

# %% [markdown]
# **2.** Where is a thing defined? For a function or class of the library, return its file below `minispike/`:
# `where(lif)` is `"snn/neurons.py"`. Every function and class knows its module by name, as `__module__`.


# %%
def where(thing: object) -> str:
    """The file of a function or class, below ``minispike/``."""
    return ...  # your code


# %%
check.where(where)

# %% [markdown]
# ## Where to read on
#
# - `README.md`: what the finished model does, in two commands.
# - `CONTRIBUTING.md`: the way of a batch through the code, from text to loss and back.
# - Lesson 01: what `backward` does.
