# %% [markdown]
# # 00 Start here
#
# **Goal.** See that everything is installed, know the one flag, and find your way in the source.
#
# These lessons build a *spiking language model* from the ground up. Each is a notebook that checks what it says:
# where the text claims something that can be computed, a cell computes it, and stops with an error if it is not so.
# Change a number and run the cell again; that is what they are for.
#
# Why spikes? A spiking network hands on 0 and 1 and nothing else. Hardware may then *add* where others multiply, and
# rest where there is a 0, which saves energy (lesson 11); and it is harder to train (lesson 04). Some words that come
# up all along:
#
# - *BERT* is a language model that reads a sentence and makes numbers of it (lesson 08). *SpikeBERT* (Lv et al. 2023)
#   is a spiking network that learns from a BERT, its *teacher*; these lessons rebuild it. The *reference* is what its
#   authors published, their program and its network; the *student* is our network, which mends some of it (lesson 13).
# - An *embedding* is a row of numbers that stands for a word. *Logits* are the numbers, one a class, of which the
#   largest is the answer; a *softmax* makes probabilities of them.
# - A *loss* says how wrong a network is, its *gradient* in which direction it becomes more so, and an *optimiser*
#   changes the weights the other way. *To train* is to do that many times.

# %%
import importlib
import re
import sys
from pathlib import Path

import numpy as np
from checks import lesson_00 as check
from lesson import show  # checks and lesson are files beside this notebook

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
    print("this machine has none, and says so:\n ", str(error).split(";")[0])
print("in use:", backend.current())
assert backend.current() in ("numpy", "cupy")

# %% [markdown]
# ## How to read the source
#
# It is written to be read in an order: a file uses what is above it in this table, never what is below.

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
    "energy.py": "what an answer costs",
    "train": "the loop, checkpoints, workers",
    "distill": "what a student learns from its teacher",
}
root = Path(minispike.__file__).parent


def lines(name: str) -> int:
    """Lines of a module or of a package."""
    path = root / name
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


for name, what in MAP.items():
    print(f"{name:14} {lines(name):5} lines   {what}")
assert lines("graph.py") < 300, "the whole of backward fits on a few pages"

order = [name.removesuffix(".py") for name in MAP]
for place, name in enumerate(order):
    files = [root / f"{name}.py"] if (root / f"{name}.py").is_file() else sorted((root / name).rglob("*.py"))
    for file in files:
        text = file.read_text(encoding="utf-8")
        used = set(re.findall(r"^(?:from|import) minispike\.(\w+)", text, re.MULTILINE))
        assert not used & set(order[place + 1 :]), f"{file.name} uses what stands below it"

# %% [markdown]
# Sizes as a picture, the network itself in black: most of a language model is something else.

# %%
ax = viz.new_figure(6.0, 3.4).subplots()
sizes = {name: lines(name) for name in MAP}
network = ("nn", "snn", "models")
ax.barh(list(sizes)[::-1], list(sizes.values())[::-1], color=["k" if n in network else "#b9bfc6" for n in sizes][::-1])
ax.set_xlabel("lines of source")
show(ax)
share = sum(sizes[name] for name in network) / sum(sizes.values())
print(f"the network is {share:.0%} of these lines")
assert share < 0.5

# %% [markdown]
# **What we saw.** Layers, neurons and models are less than half. The rest is what makes them learn, what they learn
# from, and what shows that it is right.
#
# Every public name says what it takes, gives and raises, in shapes and units. Ask for it where you stand. (What this
# one means is the matter of lesson 03.)

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
