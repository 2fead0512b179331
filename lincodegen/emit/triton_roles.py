"""Kernels that are not one scan or one chunk: roles on one grid, and the sums of clocks."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict

from lincodegen.emit.pruning import pruned
from lincodegen.emit.templates import render
from lincodegen.emit.triton_docs import KERNEL_DOCS
from lincodegen.emit.triton_kernel import KernelPrinter
from lincodegen.emit.triton_rows import SIZES, TILES
from lincodegen.emit.triton_sums import alive_sums
from lincodegen.emit.triton_text import ClocksContext, KernelText, RolesContext
from lincodegen.errors import InternalError
from lincodegen.program.ir import strip
from lincodegen.program.program import Program
from lincodegen.schedule.plan import Kernel

WHOLE = {"BK": "PK", "BV": "PV"}
"""Tiles of an axis by the constants that hold all of it."""


def print_kernel(program: Program, kernel: Kernel, op: str) -> KernelText:
    """The text of one kernel of an op."""
    if kernel.roles:
        return _print_roles(program, kernel, op)
    printer = ClocksPrinter if kernel.role == "clocks" else KernelPrinter
    return printer(program, kernel, op).text()


class RolePrinter(KernelPrinter):
    """A scan as a function: the kernel that calls it tells which tile and head a program has."""

    ending = "role"
    options = ""

    @property
    def _late_loads(self) -> bool:
        return True

    @property
    def _place(self) -> None:
        return None

    def _parameters(self, text: str) -> list[str]:
        return [f"i_{self.kernel.tiled}", "i_bh", *super()._parameters(text)]


class ClocksPrinter(KernelPrinter):
    """Gradients of log decays: a running sum over the chunks up to a kept state."""

    def _chunk_text(self, stores: dict[str, list[str]]) -> tuple[str, list[str]]:
        body = self.body
        carry, update = self._carry_name(), body.value(self.kernel.first[0])
        after = [*body.before, *stores["after"]]
        logs = body.clocks.logs(False)
        if len(logs) == 1:
            tile = strip(self.kernel.outputs[0].tile)
            log = body.clocks.log_at_tokens(logs[0])
            sums = alive_sums(body, tile.args[0], log)
            update, name = sums.handed, f"b_{self.kernel.outputs[0].name}"
            total = f"{name} = tl.where(m_dead, 0.0, {sums.total})"
            told = pruned(list(sums.lines), [total, update])
            after = [*told, total, *stores["after"]]
        after.append(f"{carry} = {update}")
        index, lines, _, _ = self._heading()
        lines = pruned(lines, after)
        index = pruned(index, [*lines, *after])
        parameters = self._parameters("\n".join([*index, *lines, *after, "K V NB"]))
        context = ClocksContext(
            self.name,
            self._doc,
            tuple(parameters),
            tuple(index),
            carry,
            (self._kept[0], self._kept[1]),
            tuple(lines),
            tuple(after),
        )
        return render("kernels/clocks.py.jinja", asdict(context)), parameters

    def text(self) -> KernelText:
        """As of any kernel; the product of two states is what the loop starts from."""
        one = self.program.one_sided
        if one is None:
            raise InternalError("clocks without one-sided gradients")
        self.body.assume(one.end, self._carry_name())
        self.body.tools |= {"inner_product", "sequence_of_border", "place_of_border"}
        self.body.tools |= {"alive_sum"} if len(self.body.clocks.logs(False)) == 1 else set[str]()
        return super().text()

    @property
    def _kept(self) -> list[str]:
        return [s.name for s in self.kernel.given if s.kind == "borders"]

    def _carry_name(self) -> str:
        return "b_dG_end"

    def _pointers(self) -> list[str]:
        return [*super()._pointers(), *self._kept, "ht", "dht"]

    def _parameters(self, text: str) -> list[str]:
        names = super()._parameters(text)
        names[names.index("places")] = "first_chunks"
        return [x for name in names for x in ((name, "N") if name == "T" else (name,))]


def _print_roles(program: Program, kernel: Kernel, op: str) -> KernelText:
    """Every role as a function, and the kernel whose programs call one each."""
    roles = [RolePrinter(program, role, op).text() for role in kernel.roles]
    name = f"{op}_{kernel.role}_{kernel.direction}_kernel"
    pointers = _union(role.pointers for role in roles)
    scalars = _union(role.scalars for role in roles)
    heads = _union(role.heads for role in roles)
    rest = _union(role.constants for role in roles)
    sizes = ("H", *heads, *(s for s in SIZES.values()), "BT", *TILES.values(), *WHOLE.values())
    constants = (*sizes, *(c for c in rest if c not in sizes))
    numbers = [n for n in ("NR",) if any(f"    {n},\n" in role.text for role in roles)]
    parameters = (*pointers, *scalars, "cu_seqlens", "first_chunks", "T", *numbers)
    counts = [f"N{role.tiled.upper()}" for role in kernel.roles if role.tiled]
    calls = []
    for i, role in enumerate(roles):
        upto = " + ".join(counts[: i + 1])
        tile = " - ".join(["i_r", *counts[:i]])
        calls.append((f"i_r < {upto}", _role_call(role, tile)))
    borders = ["first_border"] if "NB" in constants else []
    text = render(
        "kernels/roles.py.jinja",
        asdict(
            RolesContext(
                name,
                KERNEL_DOCS[kernel.role, kernel.direction],
                (*parameters, *(f"{c}: tl.constexpr" for c in constants)),
                ("NK, NV = tl.cdiv(K, BK), tl.cdiv(V, BV)",),
                " + ".join(counts),
                tuple(calls[:-1]),
                calls[-1][1],
            )
        ),
    )
    return KernelText(
        name,
        "".join(role.text for role in roles) + text,
        pointers,
        heads,
        scalars,
        constants,
        frozenset({"whole_tile", *borders}).union(*(role.tools for role in roles)),
        (),
        kernel,
    )


def _role_call(role: KernelText, tile: str) -> str:
    """The call of a role's function, its arguments by the names that the kernel has for them."""
    head = role.text[role.text.index("def ") : role.text.index("):\n")]
    names = [line.strip().split(":")[0].rstrip(",") for line in head.splitlines()[1:]]
    own = TILES[str(role.kernel.tiled)]
    values = {b: b if b == own else whole for b, whole in WHOLE.items()}
    args = [tile, *names[1:]]
    return f"{role.name}({', '.join(values.get(a, a) for a in args)})"


def _union(groups: Iterable[Iterable[str]]) -> tuple[str, ...]:
    """Every name once, in the order of the first."""
    return tuple(dict.fromkeys(name for group in groups for name in group))
