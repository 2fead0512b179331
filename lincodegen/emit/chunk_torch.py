"""Prints a group's tile program as PyTorch: all chunks at once, a loop for the carry alone."""

from __future__ import annotations

from dataclasses import dataclass

from lincodegen.emit.chunk_torch_text import Expressions, operand_names
from lincodegen.program.ir import Tile, is_dot, strip
from lincodegen.program.program import Program
from lincodegen.schedule.phases import Phases, phases


@dataclass(frozen=True, slots=True)
class TorchFunctions:
    """The text of a group's two functions and what their callers pass and get."""

    forward: str
    backward: str
    operands: tuple[str, ...]
    scalars: tuple[str, ...]
    saved: tuple[str, ...]
    gradients: tuple[str, ...]
    runtime: tuple[str, ...]


def print_torch(program: Program, suffix: str = "") -> TorchFunctions:
    """``forward`` and ``backward`` of one group over [B, T, H, ...] operands.

    forward(*operands, state, *scalars, chunk_size) -> (*outputs, state, saved)
    backward(saved, *operands, *scalars, d_outputs..., d_state, chunk_size)
        -> (*gradients of the operands, gradient of the state)
    """
    forward = _Printer(program)
    saved = _saved(program)
    text = forward.forward(suffix, saved)
    backward = _Printer(program)
    back = backward.backward(suffix, saved)
    return TorchFunctions(
        text,
        back,
        tuple(operand_names(program)),
        tuple(s.name for s in program.scalars),
        tuple(forward.names.of(t) for t in saved),
        tuple("d" + n for n in operand_names(program)),
        tuple(sorted(forward.runtime | backward.runtime)),
    )


def _saved(program: Program) -> tuple[Tile, ...]:
    """Tiles that the forward keeps for the backward: inverses and what the carry's loop made."""
    cut = phases(program.outputs, program.carry, program.next_state)
    kept = [t for t in cut.before if t.op == "inverse"]
    kept += [t for t in cut.inside if is_dot(t) and t is not program.next_state]
    roots = [g for _, g in program.gradients]
    back = phases(roots, program.d_state, program.d_carry, (program.carry, *kept))
    used = {strip(a).id for t in (*back.before, *back.inside, *back.after) for a in t.args}
    return tuple(t for t in kept if t.id in used)


@dataclass(slots=True)
class _Printer(Expressions):
    """Prints the two functions of a group: what comes before, in and after their loop."""

    # -- functions -------------------------------------------------------------------------

    def forward(self, suffix: str, saved: tuple[Tile, ...]) -> str:
        """The text of ``forward``."""
        program = self.program
        cut = phases([*program.outputs, *saved], program.carry, program.next_state)
        self._count([*program.outputs, *saved, program.next_state], set())
        args = [*operand_names(program), "state", *(s.name for s in program.scalars)]
        self._line(f"def forward{suffix}({', '.join(args)}, chunk_size):", 0)
        self._line('"""Outputs of all reads, final state, and what the backward needs."""')
        self._line("batch, heads = state.shape[:2]")
        self._line(f"length = {args[0]}.shape[1]")
        self._loads(cut)
        self._clocks([*cut.before, *cut.inside, *cut.after])
        self._statements(cut.before)
        self._loop(cut, program.carry, program.next_state, ("state", "S"), False, cut.after, saved)
        self._statements((*cut.inside, *cut.after))
        outputs = [self._from_rows(t, 1) for t in program.outputs]
        keep = ", ".join(self._value(t, 0) for t in (program.carry, *saved))
        state = "S.unflatten(0, (batch, heads))"
        self._line(f"return {', '.join([*outputs, state])}, ({keep},)")
        return "\n".join(self.lines) + "\n"

    def backward(self, suffix: str, saved: tuple[Tile, ...]) -> str:
        """The text of ``backward``."""
        program, self.state = self.program, "d_state"
        roots = [g for _, g in program.gradients]
        known = (program.carry, *saved)
        cut = phases(roots, program.d_state, program.d_carry, known)
        self._count([*roots, program.d_carry], {t.id for t in known})
        outs = [f"d_out{j}" for j in range(len(program.d_outputs))]
        for name, tile in zip(outs, program.d_outputs, strict=True):
            self.names.given[tile.id] = name
        for tile in known:
            self.names.of(tile)
            self.done.add(tile.id)
        args = [
            "saved",
            *operand_names(program),
            *(s.name for s in program.scalars),
            *outs,
            "d_state",
        ]
        self._line(f"def backward{suffix}({', '.join(args)}, chunk_size):", 0)
        self._line('"""Gradients of the operands, in their order, and of the initial state."""')
        self._line("batch, heads = d_state.shape[:2]")
        self._line(f"length = {operand_names(program)[0]}.shape[1]")
        self._line(
            f"{', '.join(self._value(t, 0) for t in known)}{',' if len(known) == 1 else ''} = saved"
        )
        self._loads(cut)
        self._clocks([*cut.before, *cut.inside, *cut.after])
        self._statements(cut.before)
        self._loop(cut, program.d_state, program.d_carry, ("d_state", "dS"), True, cut.after, ())
        self._statements((*cut.inside, *cut.after))
        found = {leaf.id: g for leaf, g in program.gradients}
        results = []
        for tile, operand in program.operands:
            slots = len(operand.nodes)
            results.append(self._from_rows(found[tile.id], slots) if tile.id in found else "None")
        for tile, _, _ in program.logs:
            results.append(self._from_rows(found[tile.id], 1) if tile.id in found else "None")
        self._line("return (")
        for result in [*results, "dS.unflatten(0, (batch, heads))"]:
            self._line(f"{result},", 8)
        self._line(")")
        return "\n".join(self.lines) + "\n"

    def _count(self, roots: list[Tile], known: set[int]) -> None:
        """How often each tile is used by others; roots count once more."""
        seen: set[int] = set()

        def visit(tile: Tile) -> None:
            inner = strip(tile)
            self.uses[inner.id] = self.uses.get(inner.id, 0) + 1
            if inner.id in seen:
                return
            seen.add(inner.id)
            if inner.id not in known:
                for arg in inner.args:
                    visit(arg)

        for root in roots:
            visit(root)

    def _loads(self, cut: Phases) -> None:
        """Operands as rows."""
        self.runtime.add("to_rows")
        needed = {strip(a).id for t in (*cut.before, *cut.inside, *cut.after) for a in (t, *t.args)}
        slots = {"tok": 1} | {axis: len(s) for axis, s in self.program.form.axes}
        pairs = [(t, o.name) for t, o in self.program.operands]
        pairs += [(t, o.name) for t, o, _ in self.program.logs]
        pairs += [
            (t, self.names.given[t.id]) for t in self.program.d_outputs if t.id in self.names.given
        ]
        for tile, name in pairs:
            self.done.add(tile.id)
            if tile.id in needed:
                n, dims = slots[tile.axes[0]], len(tile.axes) - 1
                self._line(f"{name} = to_rows({name}, chunk_size, heads, {n}, {dims})")

    # -- phases ----------------------------------------------------------------------------

    def _loop(
        self,
        cut: Phases,
        carry: Tile,
        update: Tile,
        names: tuple[str, str],
        reverse: bool,
        after: tuple[Tile, ...],
        saved: tuple[Tile, ...],
    ) -> None:
        """The loop over chunks; values that later code needs are stacked."""
        source, name = names
        later = {strip(a).id for t in after for a in t.args} | {t.id for t in saved}
        later |= {strip(t).id for t in self.program.outputs} | {
            strip(g).id for _, g in self.program.gradients
        }
        later |= {strip(a).id for t in cut.inside if not is_dot(t) for a in t.args}
        kept = [t for t in cut.inside if t.id in later and is_dot(t) and t is not update]
        keep_carry = carry is self.program.carry or carry.id in later
        first = operand_names(self.program)[0]
        self._line(f"{name} = {source}.flatten(0, 1)")
        lists = [f"{self.names.of(t)}_chunks" for t in kept]
        carry_list = f"{self.names.of(carry)}_chunks"
        for text in [*([carry_list] if keep_carry else []), *lists]:
            self._line(f"{text} = []")
        order = f"reversed(range({first}.shape[0]))" if reverse else f"range({first}.shape[0])"
        self._line(f"for i in {order}:")
        self.indent, self.place = 8, "inside"
        before = set(self.done)
        if keep_carry:
            self._line(f"{carry_list}.append({name})")
        self.stacked = {t.id for t in (*cut.before,)} | before
        self.done.add(carry.id)
        self.loop_names = {carry.id: name}
        self._statements(tuple(t for t in cut.inside if t is not update), kept)
        self._line(f"{name} = {self._text(update)[0]}")
        self.done = before | {carry.id, update.id} | {t.id for t in kept}
        self.indent, self.place = 4, "after"
        if not keep_carry and not kept:
            return
        tail = "[::-1]" if reverse else ""
        if keep_carry:
            self._line(f"{self.names.of(carry)} = torch.stack({carry_list}{tail})")
        for tile, text in zip(kept, lists, strict=True):
            self._line(f"{self.names.of(tile)} = torch.stack({text}{tail})")
