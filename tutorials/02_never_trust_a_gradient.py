# %% [markdown]
# # 02 Never trust a gradient
#
# **Goal.** Measure a derivative, know how far to trust the measurement, and catch a gradient that is wrong.
#
# A wrong gradient rarely stops a program. The loss still falls, to a less good place, and the mistake stays for
# years. But a derivative can be *measured*: go a small step in some direction, see how much the
# function changes.

# %%
import numpy as np
from checks import lesson_02 as check
from lesson import show

from minispike import GradientError, Tensor, check_grads, ops, viz
from minispike.ops.op import FusedOp

# %% [markdown]
# ## A small step, but not too small
#
# From both sides, with a step of $\varepsilon$, the *finite difference* is
#
# $$ f'(x) \approx \frac{f(x + \varepsilon) - f(x - \varepsilon)}{2\,\varepsilon}. $$
#
# In words: rise over run. Two things go wrong with it. A long step sees the function bend: an error that grows with
# $\varepsilon^2$. A short one subtracts two numbers that are nearly equal, and what is left are the digits that
# rounding has spoilt: an error that grows with $1/\varepsilon$. In between there is a best step.

# %%
x, true = 0.7, np.cos(0.7)
steps = np.logspace(-12, -0.5, 70)
errors = {}
for kind in (np.float64, np.float32):
    h = steps.astype(kind)
    above, below = np.sin(kind(x) + h), np.sin(kind(x) - h)
    measured = (above - below).astype(np.float64) / (2 * steps)
    errors[kind.__name__] = np.abs(measured - true) / true

ax = viz.new_figure(6.0, 3.2).subplots()
for (name, error), style in zip(errors.items(), ("-", "--"), strict=True):
    ax.loglog(steps, error + 1e-17, style, color="black", label=name)
ax.set_xlabel("step")
ax.set_ylabel("relative error of the slope")
ax.legend(frameon=False)
show(ax)

# %%
smooth = {  # a median of neighbours: single steps may be lucky
    name: np.array([np.median(error[max(0, i - 4) : i + 5]) for i in range(len(steps))])
    for name, error in errors.items()
}
best = {name: steps[error.argmin()] for name, error in smooth.items()}
root = {kind.__name__: np.finfo(kind).eps ** (1 / 3) for kind in (np.float64, np.float32)}
for name, error in smooth.items():
    print(f"{name}: best step {best[name]:.0e}, error {error.min():.0e}; cube root of the precision {root[name]:.0e}")
    assert root[name] / 30 < best[name] < 30 * root[name]
assert smooth["float64"].min() < 1e-9 < 1e-6 < smooth["float32"].min()
assert smooth["float64"][-1] > 1e-3 and smooth["float64"][0] > 1e-6, "too long and too short are both bad"

# %% [markdown]
# **What we saw.** A valley, about where the two errors are equal: near the cube root of the precision. In float64 its
# floor lies at ten to twelve good digits; in float32 it is narrow, and at four or five, but for strokes of luck: a
# wrong factor of 1.00001 would go unseen, and the digits of a long computation are fewer than those of one sine.
# (Where the float32 error is 1, the step was so short that $x + \varepsilon = x$.) So gradients are checked in
# float64, whatever a network is trained in.

# %% [markdown]
# ## A whole gradient at once
#
# A function of a million inputs has a million partial derivatives. Measuring each costs two calls. But one direction
# $d$ tests them all together. With the gradient $\nabla f$, all partial derivatives in one array, the slope along $d$
# must be
#
# $$ \nabla f(x) \cdot d \approx \frac{f(x + \varepsilon d) - f(x - \varepsilon d)}{2\,\varepsilon}. $$
#
# If $d$ is drawn at random, a gradient that is wrong anywhere is almost never right along it. That is what
# `check_grads` does, for every input of a function in turn. (It measures at four points in place of two, to get more
# digits, and where $f$ gives several numbers it weighs them at random and adds them up.)


# %%
def swish(x: Tensor) -> Tensor:
    """``x sigmoid(x)``, of the library's operations."""
    return x * ops.sigmoid(x)


rng = np.random.default_rng(0)
report = check_grads(swish, rng.normal(size=(4, 5)))
print(f"{report.checks} checks, the worst error {report.worst_error:.0e}")
assert report.worst_error < 1e-6

# %% [markdown]
# ## A gradient of one's own
#
# Operations that have to be fast are written by hand, forward and backward. In the library that is a `FusedOp`: an
# object for each call, whose `forward` takes arrays and keeps what backward will need, and whose `backward_arrays`
# takes the gradient of the output and returns a tuple, a gradient for each input. Here is one with a mistake that looks
# like nothing.


# %%
class Swish(FusedOp):
    """``x sigmoid(x)``, by hand."""

    def forward(self, x):
        self.x, self.s = x, 1.0 / (1.0 + np.exp(-x))
        return x * self.s

    def backward_arrays(self, grad):
        return (grad * (self.s + self.x * self.s),)  # and where is (1 - s)?


x = rng.normal(size=(4, 5))
assert np.allclose(Swish()(Tensor(x)).numpy(), swish(Tensor(x)).numpy()), "forward is right"
try:
    check_grads(lambda x: Swish()(x), x)
    caught = ""
except GradientError as error:
    caught = str(error)
print(caught)
assert caught

# %% [markdown]
# Would we have noticed in training? Let both fit the same sine.


# %%
def train(activation, rate: float = 0.05) -> list[float]:
    """The losses of two layers with this activation."""
    draw = np.random.default_rng(1)
    points = Tensor(np.c_[np.linspace(-2, 2, 40), np.ones(40)])
    wanted = Tensor(np.sin(2 * np.linspace(-2, 2, 40))[:, None])
    weights = [
        Tensor(draw.normal(size=(2, 16)), requires_grad=True),
        Tensor(draw.normal(size=(16, 1)) * 0.3, requires_grad=True),
    ]
    losses = []
    for _ in range(600):
        wrong = activation(points @ weights[0]) @ weights[1] - wanted
        loss = ops.mean(wrong * wrong)
        for w in weights:
            w.grad = None
        loss.backward()
        weights = [Tensor(w.numpy() - rate * w.grad.numpy(), requires_grad=True) for w in weights]
        losses.append(loss.item())
    return losses


curves = {
    "right gradient": train(swish),
    "wrong gradient": train(lambda x: Swish()(x)),
    "right gradient, steps too long": train(swish, rate=0.3),
}
ax = viz.new_figure(6.0, 2.8).subplots()
for (name, curve), style in zip(curves.items(), ("-", "--", ":"), strict=True):
    ax.semilogy(curve, style, color="black", label=name)
ax.set_xlabel("step")
ax.set_ylabel("loss")
ax.legend(frameon=False)
show(ax)

# %%
for name, curve in curves.items():
    print(f"{name}: {curve[0]:.3f} to {curve[-1]:.3f}")
assert all(curve[-1] < 0.8 * curve[0] for curve in curves.values()), "both learn"
assert curves["wrong gradient"][300] < curves["right gradient"][300], "and the wrong one learns faster, for a while"
assert curves["wrong gradient"][-1] > 5 * curves["right gradient"][-1], "but not as much"
jumpy = np.array(curves["right gradient, steps too long"])
assert (np.diff(np.log(jumpy)) > 1).any(), "a right one jumps too"

# %% [markdown]
# **What we saw.** For hundreds of steps the wrong gradient is even ahead. Then it jumps, as a right one does too when
# the steps are too long; who saw this curve alone would try shorter steps. Nothing in a curve of losses says that a
# gradient is right.
#
# ## Break it
#
# The measurement has an enemy of its own: a function that is not smooth. At a corner the slope from the left is not
# that from the right, and the finite difference is the mean of both. Backward happens to give the mean too: so the two
# agree, and it means nothing. What `check_grads` notices is that the slope on one side is not that on the other. And a
# spike has no slope at all; lesson 04 tells what is checked in its place.

# %%
try:
    check_grads(lambda x: ops.maximum(x, 0.0), np.zeros(3))
    complained = ""
except GradientError as error:
    complained = str(error)
print(complained)
assert complained, "at the corner"
away = check_grads(lambda x: ops.maximum(x, 0.0), np.array([-1.0, 0.5, 2.0]))
assert away.worst_error < 1e-9, "and beside it there is nothing to complain of"

# %% [markdown]
# ## Exercises
#
# Answers are in `solutions/lesson_02.py`.
#
# **1.** Write the finite difference along a direction. `f` takes an array and returns a number.


# %%
def slope_along(f, x: np.ndarray, direction: np.ndarray, step: float) -> float:
    """From both sides."""
    return ...  # your code


# %%
check.slope(slope_along)

# %% [markdown]
# **2.** Mend `Swish`: write the right gradient of its input.


# %%
def swish_gradient(grad: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Of x, from that of ``x sigmoid(x)``."""
    return ...  # your code


# %%
check.swish(swish_gradient)

# %% [markdown]
# ## Where to read on
#
# - N. J. Higham: *Accuracy and Stability of Numerical Algorithms* (2nd edition, 2002), chapter 1: what rounding
#   does.
# - `minispike/gradcheck.py`, and `tests/` for the hundred and more wrong gradients that it is tried on.
# - `minispike gradcheck FILE.py:FUNCTION` checks a function of yours from the command line.
# - Lesson 03: a neuron that fires.
