"""The page of an op: its facts gathered, then filled into the template."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from lincodegen import pipeline
from lincodegen.report.benchmarks import Benchmarks, benchmark_results
from lincodegen.report.costs import Costs, cost_view
from lincodegen.report.markdown import sections
from lincodegen.report.resources import Resources, resource_tables
from lincodegen.report.roles import roles_in
from lincodegen.report.tables import MISSING, Table, table
from lincodegen.report.tuning import Tuning, tuning_history
from lincodegen.report.verification import Verification, verification_view
from lincodegen.resources import generated_dir, results_dir, templates_dir
from lincodegen.spec.printing import format_interval, format_node
from lincodegen.spec.shapes import shown
from lincodegen.spec.step import REALS, Recurrence, Tensor
from lincodegen.targets import list_targets
from lincodegen.verify.verdict import Verdict
from lincodegen.version import VERSION

if TYPE_CHECKING:
    from markupsafe import Markup

TEMPLATE = "report.html.jinja"


@dataclass(frozen=True, slots=True)
class Page:
    """What the template shows; a part that does not exist is None or empty."""

    recurrence: Recurrence
    file: str
    version: str
    states: tuple[str, ...]
    outputs: tuple[str, ...]
    arguments: Table
    derivation: Mapping[str, Markup]
    schedule: str
    roles: tuple[tuple[str, str], ...]
    costs: Costs | None
    resources: tuple[Resources, ...]
    tuning: tuple[Tuning, ...]
    benchmarks: Benchmarks
    verification: Verification | None


@dataclass(frozen=True, slots=True)
class Measured:
    """What was run on a machine.

    Attributes:
        verdict: the op's, if it was verified.
        results: the folder of benchmark results; that of the checkout for a shipped op if None.
        records: the folder of tuning records, if there is one.
    """

    verdict: Verdict | None = None
    results: Path | None = None
    records: Path | None = None


NOTHING = Measured()


def gather(
    path: Path,
    target: str,
    sizes: Mapping[str, Any],
    *,
    sets: Mapping[str, int] | None = None,
    measured: Measured = NOTHING,
) -> Page:
    """The facts of a spec's page.

    Args:
        path: the spec.
        target: whose costs are shown in full.
        sizes: of the call that is costed, fields of `lincodegen.cost.sizes.CallSizes`.
        sets: constants and dimensions that are fixed.
        measured: where what was run comes from.

    Raises:
        TuningError: no target has this name.
        SpecError: the spec is wrong, or has no dimension of a name in ``sizes["dims"]``.
    """
    recurrence = pipeline.load(path, sets)
    # records are of the shipped op: another spec may bear its name
    shipped = pipeline.op_folder(path, sets).parent == generated_dir()
    results = measured.results or (results_dir() if shipped else None)
    schedule = pipeline.show(path, "schedule", sets)
    return Page(
        recurrence,
        path.name,
        VERSION,
        tuple(f"{state.name} {shown(state.shape)}" for state in recurrence.states),
        tuple(f"{name} {shown(node.shape)}" for name, node in recurrence.outputs),
        _arguments(recurrence),
        sections(pipeline.derivation(path, sets)),
        schedule,
        roles_in(schedule),
        _costs(path, target, sizes, sets),
        resource_tables(recurrence.name) if shipped else (),
        tuning_history(measured.records, recurrence.name),
        benchmark_results(results, recurrence.name),
        None if measured.verdict is None else verification_view(measured.verdict),
    )


def render(page: Page, date: str) -> str:
    """The HTML of a page; ``date`` is the day on which it was made."""
    return _environment().get_template(TEMPLATE).render(page=page, date=date)


@cache
def _environment() -> Environment:
    """Everything is escaped that is not markup already; undefined names are errors."""
    return Environment(
        loader=FileSystemLoader(templates_dir()),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=True,
    )


def _costs(
    path: Path, target: str, sizes: Mapping[str, Any], sets: Mapping[str, int] | None
) -> Costs | None:
    found = pipeline.cost(path, target, sizes, sets)
    if found is None:
        return None
    others = (pipeline.cost(path, name, sizes, sets) for name in list_targets())
    return cost_view(found.cost, [other.cost for other in others if other is not None])


_ARGUMENTS = ("argument", "shape", "values", "default", "meaning")


def _arguments(recurrence: Recurrence) -> Table:
    rows = [_argument(t, "for a token and head") for t in recurrence.inputs]
    rows += [_argument(t, "for a head") for t in recurrence.parameters]
    for constant in recurrence.constants:
        rows.append((constant.name, "number", MISSING, format_node(constant.default, ()), ""))
    return table(_ARGUMENTS, rows, range(len(_ARGUMENTS)))


def _argument(tensor: Tensor, extent: str) -> tuple[str, ...]:
    values: list[str] = [format_interval(tensor.domain)] if tensor.domain != REALS else []
    values += [f"norm in {format_interval(tensor.norm)}"] if tensor.norm is not None else []
    shape = f"{shown(tensor.shape)} {extent}" if tensor.shape else f"number {extent}"
    default = MISSING if tensor.default is None else format_node(tensor.default, ())
    return (tensor.name, shape, ", ".join(values) or "any", default, tensor.doc)
