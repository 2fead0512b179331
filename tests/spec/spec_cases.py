"""Mistaken and hostile specs, each with its place and a part of its message."""

from __future__ import annotations

# `§` marks the place that the message must name; it is taken out before the text is read
MARK = "§"

HEAD = """\
name: rule
inputs:
  q: {shape: [K]}
  k: {shape: [K]}
  v: {shape: [V]}
  g: {shape: [], domain: "[-inf, 0]"}
"""
STATE = "state: {S: {shape: [K, V]}}\n"
GOOD = "  S = exp(g) * S + outer(k, v)\n  o = S.T @ q\n"


def step(*lines: str) -> str:
    """A spec with the usual inputs, these lines as its step, and a state if they name it."""
    body = "".join(f"  {line}\n" for line in lines)
    state = STATE if "S" in body else ""
    return f"{HEAD}{state}step: |\n{body}"


def declared(declarations: str) -> str:
    """A spec with a good step and further declarations."""
    return f"{HEAD}{STATE}{declarations}step: |\n{GOOD}"


FILES = {
    "empty": (f"{MARK}\n\n", "the file is empty"),
    "comment alone": (f"{MARK}# nothing\n# here\n", "the file is empty"),
    "list": (f"{MARK}- name: a\n- b\n", "not a mapping"),
    "scalar": (f"{MARK}name\n\n", "not a mapping"),
    "no YAML": (f"name: rule\ninputs: {{q: {{shape: [K]}}\n{MARK}step: |\n  o = q\n", "not YAML"),
    "tab": (f"name: rule\ninputs:\n{MARK}\tq: 1\n", "not YAML"),
    "unknown key": (declared(f"{MARK}stat: 1\n"), "the key `stat` of a file"),
    "unknown key, hint": (declared(f"{MARK}constant: {{a: 1}}\n"), "did you mean `constants`?"),
    "missing step": (f"{MARK}{HEAD}{STATE}", "the key `step` is missing"),
    "missing name": (f"{MARK}inputs: {{q: {{shape: [K]}}}}\nstep: o = q\n", "the key `name`"),
    "repeated key": (declared(f"{MARK}name: again\n"), "`name` is repeated"),
    "repeated input": (
        f"name: a\ninputs:\n  q: {{shape: [K]}}\n  {MARK}q: {{shape: [K]}}\nstep: o = q\n",
        "the key `q` is repeated; it stands on line 3 already",
    ),
    "anchor": (f"name: a\ntitle: {MARK}&x b\ninputs: {{q: {{shape: []}}}}\nstep: o = q\n", "&x"),
    "alias": (f"name: a\ntitle: {MARK}*x\ninputs: {{q: {{shape: []}}}}\nstep: o = q\n", "*x"),
    "tag": (f"name: a\ntitle: {MARK}!!str 3\ninputs: {{q: {{shape: []}}}}\nstep: o = q\n", "tag"),
    "python tag": (
        f"name: {MARK}!!python/object/apply:os.system ['true']\ninputs: {{}}\nstep: o = q\n",
        "the tag",
    ),
    "merge key": (f"name: a\ninputs:\n  {MARK}<<: {{q: 1}}\nstep: o = q\n", "merge key"),
    "second document": (f"{declared('')}{MARK}---\nname: b\n", "a second document"),
    "key of a list": (f"name: a\n? {MARK}[a, b]\n: 1\nstep: o = q\n", "a key that is no text"),
    "directive": (f"{MARK}%YAML 1.1\n---\nname: a\n", "directive"),
    "nesting": (f"name: a\ndoc: {'[' * 7}{MARK}[]{']' * 7}\n", "nested more than 8 deep"),
    "nodes": (f"name: a\ndoc: [{'x,' * 4092}{MARK}x]\n", "more than 4096 YAML nodes"),
    "size": (f"{MARK}name: a\ndoc: {'x' * 65536}\n", "more than 64 KiB"),
    "control character": (f"name: a\ntitle: b{MARK}\x07\n", "the character '\\x07'"),
    "line separator": (f"name: a\ntitle: b{MARK}\u2028c\n", "the character '\\u2028'"),
    "surrogate": (f"name: a\ntitle: b{MARK}\ud800c\n", "the character '\\ud800'"),
    "title list": (declared(f"title: {MARK}[a]\n"), "`title` is no text"),
    "inputs list": (f"name: a\ninputs: {MARK}[q]\nstep: o = 1\n", "`inputs` is no mapping"),
    "no inputs": (f"name: a\ninputs: {MARK}{{}}\nstep: o = 1\n", "no inputs"),
    "later: direction": (declared(f"{MARK}direction: reverse\n"), "not yet supported"),
    "name in capitals": (f"name: {MARK}Rule\ninputs: {{q: {{shape: []}}}}\nstep: o = q\n", "Rule"),
    "name keyword": (f"name: {MARK}lambda\ninputs: {{q: {{shape: []}}}}\nstep: o = q\n", "keyword"),
    "name builtin": (f"name: {MARK}eval\ninputs: {{q: {{shape: []}}}}\nstep: o = q\n", "builtin"),
    "name path": (f"name: {MARK}../up\ninputs: {{q: {{shape: []}}}}\nstep: o = q\n", "the name"),
}

DECLARATIONS: dict[str, tuple[str, str]] = {
    "tensor without shape": ("parameters: {§u: {doc: x}}\n", "the shape of `u` is missing"),
    "tensor is no mapping": ("parameters: {u: §[K]}\n", "`u` is no mapping"),
    "shape is no list": ("parameters: {u: {shape: §K}}\n", "the shape of `u` is no list"),
    "unknown field": ("parameters: {u: {shape: [K], §domian: x}}\n", "did you mean `domain`?"),
    "later: dtype": ("parameters: {u: {shape: [K], §dtype: complex}}\n", "not yet supported"),
    "dimension T": ("parameters: {u: {shape: [§T]}}\n", "a dimension called `T`"),
    "small dimension": ("parameters: {u: {shape: [§m]}}\n", "`m` is not defined here"),
    "float size": ("parameters: {u: {shape: [§2.0]}}\n", "write `2`"),
    "float constant as size": (
        "constants: {c: 1.5}\nparameters: {u: {shape: [§c]}}\n",
        "`c` is no integer",
    ),
    "zero size": ("parameters: {u: {shape: [§0]}}\n", "an axis of size 0"),
    "divided size": ("parameters: {u: {shape: [§K / 2]}}\n", "no integer"),
    "halved size": ("parameters: {u: {shape: [§K // 2]}}\n", "`2 * R`"),
    "unreadable size": ("parameters: {u: {shape: §[K + 1]}}\n", "the axis `1 + K`"),
    "product of dimensions": ("parameters: {u: {shape: §[K * V]}}\n", "the axis `K*V`"),
    "size too large": ("parameters: {u: {shape: [§2**63]}}\n", "an integer that is too large"),
    "huge power": ("parameters: {u: {shape: [2**§2**2**2**2**2]}}\n", "the exponent `65536`"),
    "call in a shape": ("parameters: {u: {shape: ['§open(K)']}}\n", "no integer expression"),
    "underscore": ("parameters: {§_u: {shape: []}}\n", "underscore"),
    "keyword": ("parameters: {§in: {shape: []}}\n", "Python keyword"),
    "function name": ("parameters: {§exp: {shape: []}}\n", "a function of the step language"),
    "later function name": ("parameters: {§lag: {shape: []}}\n", "a function of the step"),
    "t": ("parameters: {§t: {shape: []}}\n", "`t` is reserved"),
    "argument": ("parameters: {§cu_seqlens: {shape: []}}\n", "an argument of every op"),
    "no identifier": ("parameters: {§a-b: {shape: []}}\n", "'a-b' is no name"),
    "non-ASCII name": ("parameters: {§α: {shape: []}}\n", "is no name"),
    "two meanings": ("parameters: {§q: {shape: []}}\n", "`q` is an input already, on line 3"),
    "negative size": ("parameters: {u: {shape: [§-2]}}\n", "an axis of size -2"),
    "dimension and input": ("parameters: {§K: {shape: []}}\n", "`K` is a dimension already"),
    "interval": ('parameters: {u: {shape: [], domain: §"0..1"}}\n', "`0..1` is no interval"),
    "interval upside down": ('parameters: {u: {shape: [], domain: §"[1, 0]"}}\n', "no number"),
    "empty interval": ('parameters: {u: {shape: [], domain: §"[1, 1)"}}\n', "holds no number"),
    "interval of a list": ("parameters: {u: {shape: [], domain: §[0, 1]}}\n", "no text"),
    "interval's end": ('parameters: {u: {shape: [], domain: "[0,§ K]"}}\n', "not known when"),
    "interval's name": ('parameters: {u: {shape: [], domain: "[0, §x]"}}\n', "`x` is not defined"),
    "norm of a scalar": ('parameters: {u: {shape: [], norm: §"[0, 1]"}}\n', "a norm of a scalar"),
    "negative norm": ('parameters: {u: {shape: [K], norm: §"[-1, 1]"}}\n', "a norm from -1.0"),
    "default's name": ("parameters: {u: {shape: [], default: §q}}\n", "`q` is not defined here"),
    "default's function": ("parameters: {u: {shape: [], default: §sum(1)}}\n", "cannot be used in"),
    "default with T": ("parameters: {u: {shape: [], default: 2§.T}}\n", "invalid"),
    "constant's syntax": ("constants: {c: 1 §2}\n", "invalid syntax"),
    "YAML infinity": ("constants: {c: §.inf}\n", "invalid syntax"),
    "truth value": ("constants: {c: §true}\n", "`true` is not defined here"),
    "Python truth value": ("constants: {c: §True}\n", "`True` is no number"),
    "complex": ("constants: {c: 2 * §1j}\n", "complex numbers are not yet supported"),
    "constant's text": ("constants: {c: '§\"a\"'}\n", "the character"),
    "later constant": ("constants: {c: §d + 1.5, d: 2.5}\n", "`d` is not defined yet"),
    "itself": ("constants: {c: §c + 1}\n", "`c` is not defined yet"),
    "division by zero": ("constants: {c: §1 / 0}\n", "a division by zero"),
    "overflow": ("constants: {c: §10.0**400}\n", "a number that is too large"),
    "infinite literal": ("constants: {c: §1e999}\n", "not finite"),
    "not real": ("constants: {c: §(-1)**0.5}\n", "a number that is not real"),
    "logarithm of 0": ("constants: {c: §log(0)}\n", "`log` of 0"),
    "function of constants": ("constants: {c: §tanh(1)}\n", "cannot be used in a constant"),
    "huge integer": ("constants: {c: §9**9**9}\n", "too large"),
    "constant's subscript": ('constants: {c: "§K[0]"}\n', "an index in a constant"),
    "fixed by a float": ("constants: {§K: 1.5}\n", "fixed by no integer"),
    "fixed to zero": ("constants: {§K: 0}\n", "the dimension `K` is fixed to 0"),
    "empty constant": ("constants: {c: §''}\n", "an empty expression"),
    "constant mapping": ("constants: {c: §{d: 1}}\n", "`c` is no text"),
    "unused constant": ("constants: {§c: 1.5}\n", "nothing reads the constant `c`"),
    "unused parameter": ("parameters: {§u: {shape: []}}\n", "nothing reads the parameter `u`"),
    "output of no line": ("outputs: [§p]\n", "the output `p` is assigned by no line"),
    "output is an input": ("outputs: [o, §q]\n", "the output `q` is assigned by no line"),
    "output twice": ("outputs: [o, §o]\n", "the output `o` is repeated"),
    "outputs text": ("outputs: §o\n", "`outputs` is no list"),
    "no outputs": ("outputs: §[]\n", "no outputs"),
}

STATES = {
    "rank 3": ("state: {S: {shape: §[K, V, K]}}\n", "a state of the shape [K, V, K]"),
    "free dimension": ("state: {S: {shape: [K, §W]}}\n", "`W` is not defined here"),
    "later: init": ("state: {S: {shape: [K, V], §init: 1}}\n", "not yet supported"),
    "never assigned": (
        "state: {S: {shape: [K, V]}, §R: {shape: [V]}}\n",
        "no line of the step assigns the state `R`",
    ),
}

STEPS = {
    "syntax": (["S = exp(g) +§", "o = S.T @ q"], "invalid syntax"),
    "bracket": (["S = exp(g) * S + outer(k, v)", "§o = (S.T @ q"], "never closed"),
    "closed twice": (["S = exp(g) * S + outer(k, v)", "o = S.T @ q§)"], "unmatched"),
    "indentation": (["S = exp(g) * S + outer(k, v)", "  §o = S.T @ q"], "unexpected indentation"),
    "nothing in the loop": (["§for j in range(2):", "o = q"], "nothing is indented below"),
    "import": (["§import os", "o = q"], "the statement `import`"),
    "call": (["§__import__(1)", "o = q"], "an expression whose value is lost"),
    "dunder": (["o = §q.__class__"], "the attribute `.__class__`"),
    "function": (["o = §evil(q)"], "`evil` is no function of the step language"),
    "nearest function": (["o = §expp(q)"], "did you mean `exp`?"),
    "later function": (["o = §cos(q)"], "`cos` is not yet supported"),
    "later position": (["o = §t * q"], "`t` is not yet supported"),
    "later complex": (["o = q * §2j"], "complex numbers are not yet supported"),
    "function name alone": (["o = §exp * q"], "the function `exp` without operands"),
    "lambda": (["o = (§lambda: q)"], "a lambda in the step language"),
    "walrus": (["o = (§x := q)"], "an assignment inside an expression"),
    "text": (["o = q + §'a'"], "the character"),
    "backslash": (["o = q + §\\"], "the character"),
    "Greek": (["o = q * §α"], "the character"),
    "conditional": (["o = §q if g else k"], "`where(a < b, x, y)`"),
    "if": (["§if g < 0:", "  o = q"], "control flow on data"),
    "while": (["§while g < 0:", "  o = q"], "control flow on data"),
    "def": (["§def f(x):", "  return x", "o = q"], "the statement `def`"),
    "expression": (["§exp(q)", "o = q"], "an expression whose value is lost"),
    "comparison": (["o = §q < k"], "a comparison outside of `where`"),
    "chained comparison": (["o = where(§q < k < q, q, k)"], "this comparison"),
    "where without comparison": (["o = where(§q, q, k)"], "`where` without a comparison"),
    "two targets": (["§a, o = q, k"], "an assignment to no single name"),
    "chain of targets": (["§a = o = q"], "an assignment to no single name"),
    "index target": (["§q[0] = k", "o = q"], "an assignment to no single name"),
    "operator": (["o = §q | k"], "an operator that the spec language does not have"),
    "not": (["o = §not q"], "an operator that the spec language does not have"),
    "modulo": (["o = §q % 2"], "`//` and `%` of tensors"),
    "unknown name": (["o = q + §kk"], "did you mean `k`?"),
    "read before": (["o = §x * q", "x = exp(g)"], "`x` is read before the line that assigns it"),
    "broadcast": (["o = §q + v"], "`+` of the shapes [K] and [V]"),
    "matmul": (["S = §S @ q", "o = v"], "`@` of the shapes [K, V] and [K]"),
    "matmul, hint": (["S = §S @ q", "o = v"], "transpose the left matrix: `.T`"),
    "matmul of a scalar": (["o = §g @ q"], "`@` of the shapes [] and [K]"),
    "precedence": (["S = S + outer(k, v)", "o = §v * S.T @ q * q"], "`*` of the shapes"),
    "transposed vector": (["o = §q.T"], "`.T` of the shape [K]"),
    "attribute": (["o = §q.shape"], "the attribute `.shape`"),
    "method": (["o = §q.sum()"], "a call of something that is no function name"),
    "outer of a matrix": (["o = outer(§q[:, None], q)"], "`outer` of the shape [K, 1]"),
    "dot of two sizes": (["o = §dot(q, v)"], "`dot` of the shapes [K] and [V]"),
    "diag of a matrix": (["o = diag(§q[:, None])"], "`diag` of the shape [K, 1]"),
    "concat of a scalar": (["o = concat(§g, q)"], "`concat` of a scalar"),
    "concat of widths": (
        ["o = §concat(q[:, None], v[None, :])"],
        "`concat` of the shapes [K, 1] and [1, V]",
    ),
    "arguments": (["o = §exp(q, k)"], "`exp` of 2 operands"),
    "keyword argument": (["o = exp(§x=q)"], "`exp` with the argument `x=`"),
    "axis": (["o = sum(q, §axis=1)"], "the axis 1 of the shape [K]"),
    "axis of softmax": (["o = softmax(q, §axis=0)"], "`softmax` with the argument `axis=`"),
    "softmax of a scalar": (["o = §softmax(g)"], "`softmax` of a scalar"),
    "ones of a tensor": (["o = ones(§q) * q"], "`q` is an input, no size"),
    "index": (["o = q[§j]"], "`j` is not defined here"),
    "index of a dimension": (["o = q[§1] * v"], "the index 1 into an axis of size K"),
    "index outside": (["o = q * ones(3)[§3]"], "the index 3 into an axis of size 3"),
    "float index": (["o = q[§1.0]"], "the number 1.0 is no integer"),
    "too many indices": (["o = q[0, §0]"], "too many indices for the shape [K]"),
    "second axis": (["o = q[:, None][:, §0]"], "an index or slice behind the first axis"),
    "ellipsis": (["o = q[§...]"], "no integer expression"),
    "slice with a step": (["o = q[§::2]"], "a slice with a step"),
    "slice outside": (["o = q[§0:2 * K]"], "the slice 0 : 2*K of an axis of size K"),
    "slice bound": (["o = q[0:§K - 1]"], "the bound `-1 + K`"),
    "power of a tensor": (["o = §q ** k"], "a power with neither a constant exponent"),
    "negative base": (["o = §(-2) ** q"], "a power of the base -2"),
    "state's shape": (["S = §v", "o = q"], "a value of the shape [V] for the state `S`"),
    "row to state": (["S = §v[None, :]", "o = q"], "a value of the shape [1, V] for the state `S`"),
    "scalar to state": (["S = §1", "o = q"], "a value of the shape [] for the state `S`"),
    "assigned dimension": (["§K = q", "o = q"], "`K` is a dimension and cannot be assigned"),
    "assigned function": (["§exp = q", "o = q"], "a function of the step language"),
    "assigned keyword argument": (["§out = q", "o = q"], "an argument of every op"),
    "assigned underscore": (["§_ = q", "o = q"], "underscore"),
    "loop over a tensor": (["for j in §q:", "  o = j"], "a loop over this"),
    "loop over a dimension": (["for j in range(§K):", "  o = q"], "`K` is not known before"),
    "loop with a step": (["for j in §range(0, 4, 2):", "  o = q"], "a loop over this"),
    "loop with else": (["for j in range(2): o = q", "§else: o = k"], "invalid syntax"),
    "loop variable twice": (
        ["for j in range(2):", "  for §j in range(2):", "    o = q"],
        "the variable of an outer loop",
    ),
    "loop variable assigned": (
        ["for j in range(2):", "  §j = q", "o = q"],
        "a loop variable already",
    ),
    "loop variable is an input": (["for §k in range(2):", "  o = q"], "`k` is an input already"),
    "after the loop": (
        ["for j in range(2):", "  x = j * q", "o = x * §j"],
        "the loop over `j` has ended",
    ),
    "long loop": (["for §j in range(5000):", "  o = q * j"], "more than 4096 statements"),
    "empty long loop": (
        ["for §i in range(1000000000):", "  for j in range(0):", "    o = q", "o = q"],
        "more than 4096 statements",
    ),
    "deep loops": (
        [f"{'  ' * i}for j{i} in range(1):" for i in range(9)] + ["  " * 9 + "§o = q"],
        "loops nested more than 8 deep",
    ),
    "long expression": (["§o = " + " + ".join(["q"] * 200)], "an expression of 801 characters"),
    "large expression": (["§o = " + "+".join(["q"] * 102)], "an expression of 204 nodes"),
    "deep brackets": (["o = " + "(" * 200 + "§(q" + ")" * 201], "too many nested parentheses"),
    "square state": (["S = §outer(k, k)", "o = q"], "the shape [K, K] for the state `S`"),
    "unused local": (["§x = exp(g)", "S = S + outer(k, v)", "o = S.T @ q"], "the local `x`"),
    "shadowed unread": (["§q = k", "o = q"], "nothing reads the input `q` before this line"),
}


def cases() -> dict[str, tuple[str, str]]:
    """Every case as text and message."""
    found = {f"file: {name}": case for name, case in FILES.items()}
    for name, (text, message) in DECLARATIONS.items():
        found[f"declaration: {name}"] = (declared(text), message)
    for name, (text, message) in STATES.items():
        found[f"state: {name}"] = (f"{HEAD}{text}step: |\n{GOOD}", message)
    for name, (lines, message) in STEPS.items():
        found[f"step: {name}"] = (step(*lines), message)
    return found
