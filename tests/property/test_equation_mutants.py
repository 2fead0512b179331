"""The proof fails for every change of an equation or of an adjoint rule, and names it first."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import sympy as sp

from lincodegen.derive.chunkform import SPAN, derive_group
from lincodegen.derive.timeline import read_timeline
from lincodegen.errors import InternalError
from lincodegen.program import adjoint, lower, proof
from lincodegen.program.ir import At, Graph, Tile, strip
from lincodegen.program.one_sided import add_one_sided
from lincodegen.program.passes import PASSES
from lincodegen.program.proof import prove
from lincodegen.resources import specs_dir
from lincodegen.spec.loader import load
from tests.property.unseen_specs import SPECS

NAMES = (
    "gated_delta_rule.yaml",
    "other_erase_key",
    "reads_around",
    "two_channel_decays",
    "early_and_late",
    "column_read_channel",
    "vector_rank_one",
    "value_side",
)


def timeline_of(name):
    shipped = name.endswith(".yaml")
    return read_timeline(load(specs_dir() / name if shipped else SPECS[name]))


@pytest.fixture(autouse=True)
def few_points(monkeypatch):
    monkeypatch.setattr(proof, "POINTS", 1)
    monkeypatch.setattr(proof, "MOST_EVENTS", 0)


class Mutated(lower._Lowering):  # noqa: SLF001
    """Lowers a form with one equation's tile changed; later equations see the changed one."""

    def __init__(self, form, name, index):
        super().__init__(form)
        self.target, self.index, self.changes = name, index, []

    def _equation(self, name, right):
        tile = super()._equation(name, right)
        if name != self.target or tile is None:
            return tile
        stop = {t.id for t in self.blocks.values() if t is not None}
        self.changes = list(changes(self.graph, tile, stop))
        return self.changes[self.index][1] if self.index is not None else tile


def changes(graph: Graph, tile: Tile, stop: set[int]) -> Iterator[tuple[str, Tile]]:
    """(what was done, the tile) of every single change above the blocks of other equations."""
    yield "sign", graph.scale(tile, -1)
    yield from _inner(graph, tile, stop)


def _inner(graph: Graph, tile: Tile, stop: set[int]) -> Iterator[tuple[str, Tile]]:
    if tile.id in stop or strip(tile).id in stop or not tile.args:
        return
    match tile.op:
        case "add":
            x, y = tile.args
            yield "term dropped", x
            yield "term dropped", y
            yield "term subtracted", graph.add(x, graph.scale(y, -1))
        case "scale":
            yield "sign dropped", tile.args[0]
        case "ein":
            for x, y in (tile.args, tile.args[::-1]):
                if y.axes == tile.axes:
                    yield f"{x.op} dropped", y
        case "solve":
            matrix, right = tile.args
            yield "sign of the matrix", graph.solve(graph.scale(matrix, -1), right)
            yield "transposed solve", graph.solve(matrix, right, transposed=True)
            yield "no solve", right
        case "decay":
            for points in _moved(tile.attr[0], tile.attr[1]):
                yield "point moved", graph.decay(tile.args, *points, tile.attr[2])
            if len(tile.args) > 1:
                yield "log decays swapped", graph.decay(tile.args[::-1], *tile.attr)
        case "contract":
            for points in _moved(*tile.attr):
                yield "point moved", graph.make("contract", tile.args, points, tile.axes)
    for i, arg in enumerate(tile.args):
        if arg.op in ("load", "log_decay", "carry"):
            continue
        for what, made in _inner(graph, arg, stop):
            if made.axes == arg.axes:
                args = (*tile.args[:i], made, *tile.args[i + 1 :])
                yield what, graph.make(tile.op, args, tile.attr, tile.axes)


def _moved(to: At, origin: At) -> Iterator[tuple[At, At]]:
    """The span with the moment of one of its row points exchanged."""
    other = {"read": "write", "write": "read"}
    if to.axis[0] == "m":
        yield At(to.axis, other[to.moment]), origin
    if origin.axis[0] in "mw":
        yield to, At(origin.axis, other[origin.moment])


def mutants(timeline):
    """(equation, index) of every change of every equation of the first group."""
    form = derive_group(timeline.groups[0])
    for equation in form.equations:
        lowering = Mutated(form, equation.name, None)
        lowering.program()
        for index, (what, _) in enumerate(lowering.changes):
            yield form, equation.name, index, what


def optimised(program):
    for rewrite in PASSES:
        program = rewrite(program)
    return program


def block_values(timeline, program, name):
    """The exact value of one block, at three tokens."""
    size = proof._Size(proof.Residues(proof.PRIMES[0], 7), proof._sizes(timeline, 3), 3)  # noqa: SLF001
    unrolled = proof.Unrolled(timeline, size.ring, size.sizes, 3, proof._initial(timeline, size))  # noqa: SLF001
    unrolled.run()
    tile = program.next_state if name == "S_end" else program.blocks[name]
    return proof._GroupCheck(unrolled, 0, program, size).evaluate(tile)  # noqa: SLF001


@pytest.mark.parametrize("name", NAMES)
def test_each_equation_is_named_when_it_is_wrong(name):
    timeline = timeline_of(name)
    right = lower.lower(derive_group(timeline.groups[0]))
    killed: dict[str, int] = {}
    for form, equation, index, what in mutants(timeline):
        wrong = Mutated(form, equation, index).program()
        if _same(block_values(timeline, wrong, equation), block_values(timeline, right, equation)):
            # another way to write the same value; the proof must not mind
            found = prove(timeline, (wrong,))
            assert f"{equation} (state {form.group.state.name})" not in found.failed
            continue
        found = prove(timeline, (optimised(wrong),))
        assert not found.ok, f"{equation}: {what} goes unnoticed"
        assert found.failed[0].split(" ")[0] == equation, f"{what}: {found.failed}"
        killed[equation] = killed.get(equation, 0) + 1
    assert set(killed) >= {e.name for e in form.equations if not e.name.startswith("Z_w")}
    assert sum(killed.values()) >= 8


def rewritten(equation):
    """(what, equation) of single changes of the derived formula itself."""
    terms = sp.Add.make_args(equation.right)
    for term in terms:
        rest = [t for t in terms if t is not term]
        if rest:
            yield f"without {term}", replace(equation, right=sp.Add(*rest))
        yield f"minus {term}", replace(equation, right=sp.Add(*rest, -term))
        for factor in term.atoms(SPAN):
            to, origin = factor.args
            if str(to) != "end" and origin == 0:
                late = term.subs(factor, SPAN(sp.Symbol("end"), origin))
                yield f"{factor} to the end", replace(equation, right=sp.Add(*rest, late))


@pytest.mark.parametrize("name", ["gated_delta_rule.yaml", "other_erase_key", "column_read"])
def test_each_derived_formula_is_named_when_it_is_wrong(name):
    timeline = timeline_of(name)
    form = derive_group(timeline.groups[0])
    right = lower.lower(form)
    killed = set()
    for i, equation in enumerate(form.equations):
        for what, wrong in rewritten(equation):
            equations = (*form.equations[:i], wrong, *form.equations[i + 1 :])
            try:
                program = lower.lower(replace(form, equations=equations))
            except InternalError:
                assert "N_mm*Z_m" in what
                continue
            values = [block_values(timeline, p, equation.name) for p in (program, right)]
            if _same(*values):
                assert "s_m*c_m" in what  # the event has no value of its own
                continue
            found = prove(timeline, (optimised(program),))
            assert found.failed, f"{equation.name}: {what} goes unnoticed"
            assert found.failed[0].split(" ")[0] == equation.name, what
            killed.add(equation.name[0])
    assert killed == set("NZPOS")


def _same(x, y):
    return all(a == b for a, b in zip(x.ravel(), y.ravel(), strict=True))


def _rule(op, change):
    """The adjoint rules with the parts of one operation changed."""
    original = adjoint._vjp  # noqa: SLF001

    def changed(graph, tile, d):
        parts = list(original(graph, tile, d))
        return iter(change(graph, parts) if tile.op == op else parts)

    return changed


def _negated(which):
    def change(graph, parts):
        x, part = parts[which]
        return [*parts[:which], (x, graph.scale(part, -1)), *parts[which + 1 :]]

    return change


def _doubled(which):
    return lambda graph, parts: [*parts, parts[which]]


def _dropped(which):
    return lambda graph, parts: [*parts[:which], *parts[which + 1 :]]


def _exchanged(graph, parts):
    """The parts of two operands of one shape, the wrong way round."""
    (x, dx), (y, dy), *rest = parts
    if dx is None or dy is None or dx.axes != dy.axes:
        return parts
    return [(x, dy), (y, dx), *rest]


RULES = [
    ("ein", _negated(0), "other_erase_key"),
    ("ein", _negated(1), "other_erase_key"),
    ("ein", _doubled(0), "other_erase_key"),
    ("ein", _doubled(1), "other_erase_key"),
    ("add", _negated(0), "other_erase_key"),
    ("add", _dropped(1), "other_erase_key"),
    ("scale", _negated(0), "other_erase_key"),
    ("factor", _negated(0), "reads_around"),
    ("rename", _negated(0), "gated_delta_rule.yaml"),
    ("decay", _negated(0), "two_decays"),
    ("decay", _dropped(1), "two_decays"),
    ("decay", _exchanged, "two_decays"),
    ("contract", _negated(0), "early_and_late"),
    ("contract", _negated(1), "early_and_late"),
    ("contract", _negated(2), "early_and_late"),
    ("contract", _dropped(2), "column_read_channel"),
    ("solve", _negated(0), "gated_delta_rule.yaml"),
    ("solve", _dropped(1), "gated_delta_rule.yaml"),
    ("reduce", _negated(0), "normaliser"),
]


@pytest.mark.parametrize(("op", "change", "name"), RULES, ids=lambda x: getattr(x, "__name__", x))
def test_a_wrong_adjoint_rule_is_found(op, change, name, monkeypatch):
    monkeypatch.setattr(adjoint, "_vjp", _rule(op, change))
    timeline = timeline_of(name)
    programs = [lower.lower(derive_group(g)) for g in timeline.groups]
    found = prove(timeline, tuple(map(optimised, programs)))
    assert not found.ok
    assert {f.split(" ")[0] for f in found.failed} == {"adjoint"}


REWRITES = PASSES[: PASSES.index(add_one_sided)]
"""The passes that make gradients anew; the last of all adds others beside them."""


@pytest.mark.parametrize("which", range(len(REWRITES)))
def test_a_wrong_pass_is_found(which):
    """A pass that loses the sign of what it makes first."""
    timeline = timeline_of("two_channel_decays")
    program = lower.lower(derive_group(timeline.groups[0]))
    for i, rewrite in enumerate(REWRITES):
        before = program
        program = rewrite(program)
        if i == which:
            leaf, gradient = next(
                pair
                for pair, old in zip(program.gradients, before.gradients, strict=True)
                if pair[1] is not old[1] or which == len(REWRITES) - 1
            )
            wrong = program.graph.scale(gradient, -1)
            program = proof_replace(program, leaf, wrong)
    assert {f.split(" ")[0] for f in prove(timeline, (program,)).failed} == {"adjoint"}


@pytest.mark.parametrize("field", ["loads", "logs"])
def test_a_wrong_one_sided_gradient_is_found(field):
    """One that has lost its sign, of an operand or of a log decay."""
    timeline = timeline_of("mamba2.yaml")
    program = optimised(lower.lower(derive_group(timeline.groups[0])))
    (leaf, gradient), *others = getattr(program.one_sided, field)
    wrong = ((leaf, program.graph.scale(gradient, -1)), *others)
    program = replace(program, one_sided=replace(program.one_sided, **{field: wrong}))
    found = prove(timeline, (program,))
    assert {f.split(" ")[0] for f in found.failed} == {"one-sided"}


def proof_replace(program, leaf, gradient):
    pairs = tuple((x, gradient if x is leaf else g) for x, g in program.gradients)
    return replace(program, gradients=pairs)
