"""Mistakes in the gradient checker, the losses of distillation and the schedule."""

EDITS: dict[str, list[tuple[str, str, str]]] = {
    "minispike/gradcheck.py": [
        ("rng.uniform(-1.0, 1.0, size=array.shape)", "np.ones(array.shape)", "one direction, that of ones"),
        (
            "if value.requires_grad and all(value is not t for _, t in leaves):",
            "if value.requires_grad:",
            "a tensor that is given twice counts twice",
        ),
        (
            "if value.requires_grad and all(value is not t for _, t in leaves):",
            "if all(value is not t for _, t in leaves):",
            "constants are checked too",
        ),
        ("max(report.worst_error, report2.worst_error)", "report2.worst_error", "the first order is forgotten"),
        ("worst = max(worst, error or 0.0)", "worst = error or 0.0", "the error of the last input alone"),
        ("number(rtol) and 0 < rtol < 1", "number(rtol) and 0 <= rtol < 1", "<= for <"),
        ("with default_dtype(np.float64), smooth_spikes", "with smooth_spikes", "the function computes in float32"),
        ("rng = np.random.default_rng(seed)", "rng = np.random.default_rng(0)", "the seed has no effect"),
        ("t.array, t.requires_grad = array, requires_grad", "pass", "nothing is put back"),
        (
            "report = _check(lambda: f(*inputs), leaves, rng, limits, create_graph=order > 1)",
            "report = _check(lambda: f(*inputs), leaves, rng, limits)",
            "the recorded backward is not checked",
        ),
        (
            "if abs(change) > 1e-12 * size:",
            "if abs(change) > 2.0 * size:",
            "a function that changes from call to call passes",
        ),
    ],
    "minispike/differences.py": [
        (
            "((-2, 1 / 12), (-1, -2 / 3), (1, 2 / 3), (2, -1 / 12))",
            "((-1, -1 / 2), (1, 1 / 2))",
            "three points: an error of order 2",
        ),
        (
            "max(abs(third) for third in thirds) / eps",
            "max(abs(third) for third in thirds)",
            "a kink is too small to be seen",
        ),
        (
            "max(abs(third) for third in thirds) / eps",
            "min(abs(third) for third in thirds) / eps",
            "a kink on one side is not seen",
        ),
        (
            "_LAST_PLACE * self.size / self.eps",
            "_LAST_PLACE * self.size * self.eps",
            "* for /: rounding is not noticed",
        ),
    ],
    "minispike/nesting.py": [
        (
            'type(value)(*parts) if hasattr(value, "_fields") else type(value)(parts)',
            "type(value)(parts)",
            "named tuples are forgotten",
        ),
        (
            "for f in dataclasses.fields(value) if f.init}",
            "for f in dataclasses.fields(value)}",
            "fields that are not arguments are set",
        ),
    ],
    "minispike/verdict.py": [
        (
            "self.limits.rtol * self._size(found) + self.limits.atol * self.unit",
            "self.limits.rtol * self._size(found)",
            "no absolute tolerance",
        ),
        (
            "self.limits.rtol * self._size(found) + self.limits.atol * self.unit",
            "(self.limits.rtol + self.limits.atol) * self.unit",
            "relative to the wrong size",
        ),
        (
            "if not math.isfinite(found.slope + self.analytic):",
            "if math.isinf(found.slope + self.analytic):",
            "what is not a number passes",
        ),
        ("        self.frozen.replay()\n", "", "detached values are not played back"),
        ("with frozen_values(self.frozen), no_grad():", "with no_grad():", "detached values are not held"),
        ("second.bend > 0.5 * first.bend", "second.bend < 0.5 * first.bend", "< for >"),
        (
            "self._wrong(found) + self._cause(found, rng)",
            "self._wrong(found)",
            "the cause is not looked for",
        ),
        ("            leaf.array = base\n", "            pass\n", "the nudged input stays"),
        ("return self.limits.rtol * found.far_from", "return found.far_from", "errors in units of what is allowed"),
        ("8 * self._rounding(found))", "0.0)", "noise is taken for a kink"),
        ("change = array - base", "change = array", "outputs that do not change hide those that do"),
        ("if 0 < self.scale < 0.1:", "if False:", "what is steep beside small inputs is a kink"),
        ("or not first.size:", "or False:", "nothing changes within a short step, and no longer one is tried"),
    ],
    "minispike/distill/losses.py": [
        ("features[0].shape[0] if per_batch else len(terms)", "len(terms)", "per_batch has no effect"),
        (
            "features[0].shape[0] if per_batch else len(terms)",
            "features[0].shape[0] * len(terms) if per_batch else len(terms)",
            "divided by the number of layers too",
        ),
        ("masked_mse(f, t, mask) for f, t", "masked_mse(f, t) for f, t", "the mask is not applied"),
        ("masked: bool = field(default=True", "masked: bool = field(default=False", "wrong default"),
        ("temperature: float = field(default=2.0", "temperature: float = field(default=1.0", "wrong default"),
        ("if not 0 <= value < math.inf:", "if not 0 <= value <= math.inf:", "<= for <"),
        ("if not 0 < self.temperature < math.inf:", "if not 0 <= self.temperature < math.inf:", "<= for <"),
        (
            'for n in ("features", "embedding", "logits", "cross_entropy")}',
            'for n in ("features", "embedding", "logits")}',
            "a term is forgotten",
        ),
        ("i * teacher_layers // depth + 1 for i", "i * teacher_layers // depth for i", "off by one"),
        ("-(-(i + 1) * teacher_layers // depth)", "(i + 1) * teacher_layers // depth", "rounded down, not up"),
        ("-(-(i + 1) * teacher_layers // depth)", "-(-i * teacher_layers // depth)", "off by one"),
        ("0 <= layer <= teacher_layers", "0 < layer <= teacher_layers", "< for <=: the embeddings are refused"),
        ("0 <= layer <= teacher_layers", "0 <= layer < teacher_layers", "< for <=: the last layer is refused"),
        ("if len(layers) != depth or not all(", "if len(layers) > depth or not all(", "too few layers pass"),
        ('        default="last", metadata', '        default="early", metadata', "wrong default"),
        (
            "len(features) != len(targets) or features",
            "len(features) < len(targets) or features",
            "too few targets pass the check",
        ),
        (
            "features[0].shape != targets[0].shape",
            "features[0].shape[-1] != targets[0].shape[-1]",
            "another batch passes the check",
        ),
    ],
    "minispike/train/schedule.py": [
        ("max(1, round(self.warmup * steps)) - 1", "max(1, round(self.warmup * steps))", "off by one"),
        ("return (step + 1) / (top + 1)", "return step / (top + 1)", "off by one: the first rate is 0"),
        ("(step - top) / (steps - 1 - top)", "(step - top) / (steps - top)", "off by one"),
        ("(1 + math.cos(math.pi * progress)) / 2", "(1 - math.cos(math.pi * progress)) / 2", "sign"),
        ("self.floor + (1 - self.floor) * decay", "self.floor + decay", "a missing factor"),
        ("if step <= top:", "if step < top:", "< for <="),
        ("max(1, round(self.warmup * steps))", "round(self.warmup * steps)", "no warm-up at all"),
        (
            'if self.shape == "cosine" else 1 - progress',
            'if self.shape == "linear" else 1 - progress',
            "branches swapped",
        ),
    ],
}
