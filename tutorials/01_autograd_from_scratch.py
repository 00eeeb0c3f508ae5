# %% [markdown]
# # 01 Autograd from scratch
#
# **Goal.** Write an engine that differentiates any program made of a few operations, find out where the simple one
# breaks, and meet the library's, which is the same idea with those places mended.
#
# Training needs the derivative of one number, the loss, with respect to millions. Nobody works that out by hand: each
# operation knows its own derivative, and the *chain rule* puts them together.

# %%
import sys

import numpy as np
from checks import lesson_01 as check
from lesson import show

import minispike
from minispike import Tensor, ops, viz

# %% [markdown]
# ## A value that remembers where it came from
#
# A network ends in one number, the loss $\ell$. The chain rule says: if $\ell$ depends on $y$, and $y$ on $x$, then
#
# $$ \frac{\partial \ell}{\partial x} = \frac{\partial \ell}{\partial y} \cdot \frac{\partial y}{\partial x}. $$
#
# In words: to know how the loss changes with $x$, it is enough to know how it changes with $y$, and how $y$ changes
# with $x$. So each value keeps its *parents*, and a function that turns the gradient of the value into those of its
# parents. Walk from the loss back to the beginning, and all are known.


# %%
class Value:
    """An array, its gradient, and how to hand the gradient on."""

    def __init__(self, array, parents=(), hand_on=None):
        self.array, self.parents, self.hand_on = np.asarray(array, dtype=float), parents, hand_on
        self.grad = np.zeros_like(self.array)

    def __add__(self, other):
        return Value(self.array + other.array, (self, other), lambda g: (g, g))

    def __mul__(self, other):
        return Value(self.array * other.array, (self, other), lambda g: (g * other.array, g * self.array))

    def __matmul__(self, other):
        # y_ij is the sum of x_ik w_kj over k. So x_ik has the gradient sum_j g_ij w_kj, which is g @ w.T.
        return Value(self.array @ other.array, (self, other), lambda g: (g @ other.array.T, self.array.T @ g))

    def tanh(self):
        out = np.tanh(self.array)
        return Value(out, (self,), lambda g: (g * (1 - out**2),))

    def sum(self):
        return Value(self.array.sum(), (self,), lambda g: (np.full_like(self.array, g),))

    def backward(self):
        """Give every value behind this one its gradient."""
        order, seen = [], set()

        def visit(value):
            if id(value) not in seen:
                seen.add(id(value))
                for parent in value.parents:
                    visit(parent)
                order.append(value)  # after all that it depends on

        visit(self)
        self.grad = np.ones_like(self.array)
        for value in reversed(order):
            if value.hand_on:
                for parent, g in zip(value.parents, value.hand_on(value.grad), strict=True):
                    parent.grad = parent.grad + g  # added: a value may be used more than once


# %% [markdown]
# That is all of it: forty lines. Two things in `backward` are easy to get wrong. The order: a value may hand its
# gradient on only when it has all of it. `visit` puts a value behind its parents, so walked in *reverse* a value comes
# after everything that was made of it. And the sum: a value that is used twice gets two gradients, and both count.

# %%
x, w = Value([[1.0, -2.0]]), Value([[0.5, 0.1], [0.3, -0.4]])
h = (x @ w).tanh()
loss = (h * h + h).sum()  # h is used three times
loss.backward()

theirs = {name: Tensor(v.array, requires_grad=True) for name, v in {"x": x, "w": w}.items()}
h_ = ops.tanh(theirs["x"] @ theirs["w"])
(h_ * h_ + h_).sum().backward()
for name, ours in {"x": x, "w": w}.items():
    assert np.allclose(ours.grad, theirs[name].grad.numpy()), name
print("the same gradients as the library's:", w.grad.round(4).tolist())

# %% [markdown]
# ## Does it learn?
#
# Two *layers*, each a product with a matrix of weights, and the oldest problem there is: the exclusive or (1 where one
# of two inputs is 1 and the other is not), which no single layer can learn.

# %%
rng = np.random.default_rng(3)
inputs = Value([[0, 0, 1], [0, 1, 1], [1, 0, 1], [1, 1, 1]])  # a last column of ones: its weights are a constant term
minus_targets = Value([[0.0], [-1.0], [-1.0], [0.0]])  # our Value knows no minus
first, second = Value(rng.normal(size=(3, 6))), Value(rng.normal(size=(6, 1)))
losses = []
for _ in range(300):
    wrong = (inputs @ first).tanh() @ second + minus_targets
    loss = (wrong * wrong).sum()
    for weight in (first, second):
        weight.grad = np.zeros_like(weight.array)  # gradients are added: those of the last step must go
    loss.backward()
    for weight in (first, second):
        weight.array = weight.array - 0.1 * weight.grad
    losses.append(float(loss.array))

ax = viz.new_figure(5.5, 2.8).subplots()
ax.semilogy(losses, color="black")
ax.set_xlabel("step")
ax.set_ylabel("squared error")
show(ax)

# %%
assert losses[-1] < 1e-2 < losses[0]
print(f"from {losses[0]:.2f} to {losses[-1]:.1e}")

# %% [markdown]
# **What we saw.** It learns. (The bump is a step that was too long; the next ones make up for it.)
#
# ## Break it
#
# **A deep graph.** A spiking network is unrolled over time; a graph of thousands of operations in a row is nothing
# unusual. Ours calls itself once for each.

# %%
deep = Value(1.0)
for _ in range(2 * sys.getrecursionlimit()):
    deep = deep + Value(0.0)
try:
    deep.backward()
    broke = False
except RecursionError:
    broke = True
assert broke
print("our engine: RecursionError")

deep = start = Tensor(1.0, requires_grad=True)
for _ in range(2 * sys.getrecursionlimit()):
    deep = deep + 0.0
deep.backward()
assert start.grad.item() == 1.0
print("minispike: 1.0, for it keeps a stack of its own (minispike/graph.py)")

# %% [markdown]
# **Broadcasting.** NumPy adds a row to a matrix by repeating it. Then the row's gradient is the *sum* over the places
# where it was used. Ours hands on the gradient of the matrix, in the shape of the matrix, and nobody complains.

# %%
matrix, row = Value(np.ones((3, 2))), Value(np.zeros(2))
(matrix + row).sum().backward()
print("our engine: a gradient of shape", row.grad.shape, "for a row of shape", row.array.shape)
assert row.grad.shape != row.array.shape

row = Tensor(np.zeros(2), requires_grad=True)
(Tensor(np.ones((3, 2))) + row).sum().backward()
print("minispike: ", row.grad.numpy())
assert row.grad.numpy().tolist() == [3.0, 3.0]

# %% [markdown]
# **A value that changes.** Backward needs the arrays of forward. If somebody changes one in between, ours computes the
# gradient of something that never was. The library locks them, and says so.

# %%
a = Value([2.0])
square = a * a
a.array[0] = 100.0
square.backward()
print("our engine: the derivative of a^2 at 2 is", a.grad[0], "(it is 4)")
assert a.grad[0] != 4

t = Tensor([2.0], requires_grad=True)
square = t * t
try:
    t.array[0] = 100.0
    refused = not isinstance(t.array, np.ndarray)  # an array on a GPU cannot be locked
except ValueError as error:
    refused = True
    print("minispike: ValueError:", error)
assert refused

# %% [markdown]
# ## The library's engine
#
# It is this one, mended: `minispike/tensor.py` is the value, `minispike/ops/` the operations with their derivatives,
# and `minispike/graph.py` the walk backwards, a file of 250 lines. One thing it can do that ours cannot: its
# derivatives are themselves made of operations, so that they have derivatives.

# %%
x = Tensor(0.5, requires_grad=True)
y = ops.tanh(x)
(slope,) = minispike.grad(y, [x], create_graph=True)
(curvature,) = minispike.grad(slope, [x])
assert np.isclose(curvature.item(), -2 * np.tanh(0.5) * (1 - np.tanh(0.5) ** 2))
print(f"tanh at 0.5: slope {slope.item():.4f}, curvature {curvature.item():.4f}")

# %% [markdown]
# ## Exercises
#
# Answers are in `solutions/lesson_01.py`.
#
# **1.** Give `Value` a division: return the gradients of `a / b` with respect to `a` and `b`, where `g` is that of the
# quotient. All are arrays of one shape.


# %%
def division_gradients(g: np.ndarray, a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """In this order: of a, of b."""
    return ...  # your code


# %%
check.division(division_gradients)

# %% [markdown]
# **2.** Mend the broadcasting: bring a gradient back to the shape of the array that was repeated.


# %%
def unbroadcast(g: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Sum g over the axes along which an array of this shape was repeated."""
    return ...  # your code


# %%
check.broadcasting(unbroadcast)

# %% [markdown]
# ## Where to read on
#
# - A. G. Baydin et al.: *Automatic Differentiation in Machine Learning: a Survey* (arXiv 1502.05767).
# - `minispike/ops/arithmetic.py`: how an operation and its derivative stand side by side.
# - Lesson 02: how to know that a derivative is right.
