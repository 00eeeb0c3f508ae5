"""Mistakes in the engine: the walk through the graph, tensors and what they share, the backend."""

EDITS: dict[str, list[tuple[str, str, str]]] = {
    "minispike/graph.py": [
        ("if tensor.version != version:", "if tensor.version < version:", "< for !=: a changed tensor passes"),
        (
            "self.op, self.inputs = None, ()",
            "self.op = None",
            "a freed node keeps its inputs, and with them the graph",
        ),
        (
            'with switched("grad_enabled", create_graph), switched',
            'with switched("grad_enabled", True), switched',
            "backward is always recorded",
        ),
        (
            "if maker is None or maker.reads_values or op.reads_values:",
            "if maker is None or op.reads_values:",
            "the values of an op that reads its own output are lost",
        ),
        (
            "if maker is None or maker.reads_values or op.reads_values:",
            "if maker is None or maker.reads_values:",
            "the values that an op reads are lost",
        ),
        (
            "return id(tensor) if tensor.node is None else id(tensor.node)",
            "return id(tensor)",
            "a shadow is another tensor",
        ),
        (
            "if node is None or identity(tensor) in wanted:",
            "if node is None:",
            "tensors in the middle are not returned",
        ),
        ("grads[key] = g\n", "grads[key] = g\n                    owned.add(key)\n", "adds in place to what is shared"),
        (
            "                    if not create_graph:\n                        owned.add(key)",
            "                    owned.add(key)",
            "adds in place to what has a graph",
        ),
        ("if not retain_graph:", "if not create_graph:", "retain_graph has no effect"),
        (
            "stack.append((tensor, True))",
            "order.insert(0, tensor)",
            "a node goes before all its uses are known",
        ),
        (
            "operations = {identity(tensor): tensor.node.alive_op() for tensor in order if tensor.node is not None}",
            "operations = {identity(tensor): tensor.node.op for tensor in order if tensor.node is not None}",
            "neither freed nodes nor changed tensors are looked for",
        ),
        ("    lock(total)\n", "", "a sum of gradients stays writable"),
        ("gradient.shape[i + added] != 1]", "gradient.shape[i] != 1]", "the axes are counted from the left"),
        ("axes = (*range(added), *stretched)", "axes = tuple(stretched)", "axes that were put in front are forgotten"),
        (
            "return gradient if gradient.dtype == source.dtype else gradient.astype(source.dtype)",
            "return gradient",
            "the gradient has not the type of its tensor",
        ),
    ],
    "minispike/tensor.py": [
        (
            "return tensor if tensor.dtype == root.dtype else tensor.astype(root.dtype)",
            "return tensor",
            "a seed keeps its own type",
        ),
        ("if tensor.shape != root.shape:", "if tensor.size != root.size:", "a seed of another shape passes"),
        (
            "if root.size != 1:",
            "if root.ndim != 0:",
            "one element in a matrix is refused",
        ),
        (
            "leaf.grad = value if leaf.grad is None else leaf.grad + value",
            "leaf.grad = value",
            "gradients do not add up",
        ),
        (
            "                value = value if create_graph else _unshared(value, handed_out)\n",
            "",
            "several leaves share a gradient",
        ),
        (
            "handed_out = {id(grad.array)} if isinstance(grad, Tensor) else set()",
            "handed_out: set[int] = set()",
            "the seed is shared with a leaf",
        ),
        ("if array.base is not None or id(array) in handed_out:", "if id(array) in handed_out:", "a leaf gets a view"),
        ("    handed_out.add(id(array))\n", "", "what was given away is not remembered"),
        (
            'with switched("grad_enabled", create_graph), switched',
            'with switched("grad_enabled", True), switched',
            "adding to a gradient is always recorded",
        ),
        ("retain_graph or create_graph, create_graph)", "retain_graph, create_graph)", "create_graph frees the graph"),
        ("        self.version += 1\n", "", "an assignment goes unnoticed"),
        (
            'new.astype(self.dtype, order="C", copy=True)',
            'new.astype(self.dtype, order="C", copy=False)',
            "the array of the caller is not copied",
        ),
        ('new.astype(self.dtype, order="C", copy=True)', "new.copy()", "assign changes the type"),
        (
            "        if self.node is not None:\n            raise",
            "        if self.node is not None and self.grad is not None:\n            raise",
            "the result of an op can be assigned to",
        ),
        (
            "return Tensor._of(freeze(self.array))",
            "return Tensor._of(self.array)",
            "detached values are not held in a check",
        ),
        (
            "        backend.lock(array)\n        self = Tensor.__new__",
            "        self = Tensor.__new__",
            "what an op returns can be changed in place",
        ),
        (
            "        backend.lock(self.array)\n        self.requires_grad",
            "        self.requires_grad",
            "a new tensor can be changed in place",
        ),
        (
            "        backend.lock(self.array)\n        self.version",
            "        self.version",
            "an assigned tensor can be changed in place",
        ),
        (
            "array.astype(float_type(dtype), copy=True)",
            "array.astype(float_type(dtype), copy=False)",
            "the array of the caller is not copied",
        ),
        (
            "dtype = value.dtype if is_float(value) else get_default_dtype()",
            "dtype = get_default_dtype()",
            "float64 arrays become float32",
        ),
        ("return np.array(backend.to_numpy(self.array))", "return backend.to_numpy(self.array)", "numpy() is no copy"),
        ("retain_graph: bool = True,", "retain_graph: bool = False,", "wrong default of grad"),
        (
            "array_module(*(t.array for t in neighbours))",
            "backend.default_module()",
            "a constant goes to the backend in use, not to that of the tensors",
        ),
        ("        if new.shape != self.shape:", "        if new.size != self.size:", "assign changes the shape"),
        (
            "        if self.requires_grad:\n            expected",
            "        if self.node is not None:\n            expected",
            "NumPy loses the gradient of a leaf without a word",
        ),
        (
            "not (array is self.array and wanted == array.dtype)",
            "not wanted == array.dtype",
            "a copy from the host of another backend is called none",
        ),
        (
            "    __array_ufunc__ = None  #",
            "    __array_ufunc = None  #",
            "an array on the left loops over the elements",
        ),
    ],
    "minispike/backend.py": [
        ("np.empty(size + CACHE_LINE, dtype", "np.empty(size, dtype", "too little memory"),
        ("start = -raw.ctypes.data % CACHE_LINE", "start = 0", "begins anywhere"),
        (
            "np.add.reduceat(values[order], starts, axis=0)",
            "np.add.reduceat(values, starts, axis=0)",
            "the rows are not put in the order of the index",
        ),
        ("target[rows] += sums", "target[rows] = sums", "= for +="),
        ("    if len(index):\n        rows, sums", "    if True:\n        rows, sums", "no index at all is forgotten"),
        (
            "np.flatnonzero(np.concatenate(([True], rows[1:] != rows[:-1])))",
            "np.flatnonzero(np.concatenate((rows[1:] != rows[:-1], [True])))",
            "ends for starts",
        ),
        (
            'return module.array(to_numpy(value) if module is np else value, dtype=dtype, order="C")',
            'return module.asarray(to_numpy(value) if module is np else value, dtype=dtype, order="C")',
            "copied does not copy",
        ),
        ('value, dtype=dtype, order="C")', "value, dtype=dtype)", "the order in memory is kept"),
        (
            "    if isinstance(array, np.ndarray):\n        array.setflags(write=False)",
            "    if isinstance(array, np.ndarray) and array.base is None:\n        array.setflags(write=False)",
            "views are not locked",
        ),
    ],
    "minispike/smooth.py": [
        ("        self._next = 0\n", "        self._next = self._next or 0\n", "replay does not start anew"),
        ("self._values.append(value.copy())", "self._values.append(value)", "a missing copy"),
        (
            "    finally:\n        _switches.smooth = before",
            "    finally:\n        _switches.smooth = False",
            "a block within a block ends both",
        ),
        (
            "    finally:\n        _switches.frozen = before",
            "    finally:\n        _switches.frozen = None",
            "a block within a block ends both",
        ),
        ("class _Switches(threading.local):", "class _Switches:", "the switches are those of all threads"),
        (
            "before, _switches.smooth = _switches.smooth, on",
            "before, _switches.smooth = _switches.smooth, True",
            "smooth_spikes(False) switches on",
        ),
    ],
    "minispike/modes.py": [
        ("class _ThreadState(threading.local):", "class _ThreadState:", "the switches are those of all threads"),
        (
            "    finally:\n        setattr(_state, name, before)",
            "    finally:\n        delattr(_state, name)",
            "a block within a block ends both",
        ),
        ("if known is None or known not in _FLOATS:", 'if known is None or known.kind != "f":', "float16 passes"),
        ("and value.dtype in _FLOATS", 'and value.dtype.kind == "f"', "float16 arrays keep their type"),
    ],
}
