"""Stage ``emit``: an op as the files of a package.

From the timeline and its tile programs, or from a recurrence alone where it has no chunked
form, to the text of every file. Pure: the same input gives the same bytes.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import PurePath

from lincodegen.derive.events import Timeline
from lincodegen.emit.checked import check_python
from lincodegen.emit.chunk_torch import TorchFunctions, print_torch
from lincodegen.emit.manifest import manifest_text
from lincodegen.emit.op_body import OpBody
from lincodegen.emit.op_context import OpParts, OpPrinter, own_names, wrapped_import
from lincodegen.emit.op_defaults import default_functions
from lincodegen.emit.op_docs import summary
from lincodegen.emit.op_plan import OpPlan, TokenFunction, plan_op
from lincodegen.emit.op_recurrent import recurrent_body
from lincodegen.emit.op_segments import refused_segments, segments_text
from lincodegen.emit.templates import formatted, render
from lincodegen.emit.token_in_place import print_in_place
from lincodegen.emit.token_recurrent_torch import recurrent_torch
from lincodegen.emit.token_recurrent_triton import recurrent_triton
from lincodegen.emit.token_step_kernel import step_triton
from lincodegen.emit.token_torch import print_torch_function, torch_imports
from lincodegen.emit.triton_module import module_header, print_triton
from lincodegen.errors import ScheduleError
from lincodegen.program.program import Program
from lincodegen.program.token import whole_step
from lincodegen.program.token_heads import head_sources
from lincodegen.resources import templates_dir
from lincodegen.schedule.kernels import schedule
from lincodegen.spec.serialize import to_json
from lincodegen.spec.step import Recurrence
from lincodegen.version import VERSION

ROWS = 64
"""Rows of a chunk on its longest axis; tokens are fewer where a token has several."""


@dataclass(frozen=True, slots=True)
class Package:
    """A generated op: the text of each file by name."""

    name: str
    digest: str
    tier: int
    files: Mapping[str, str]

    def __str__(self) -> str:
        parts = [f"# {self.name}/{name}\n\n{text}" for name, text in self.files.items()]
        return "\n".join(parts)


def emit_chunked(timeline: Timeline, programs: Sequence[Program], derivation: str) -> Package:
    """The package of a recurrence whose every group has a chunked form."""
    recurrence = _local(timeline.recurrence)
    plan = plan_op(timeline, programs)
    header, digest = _header(recurrence), package_digest(recurrence)
    functions = [print_torch(p, g.suffix) for p, g in zip(programs, plan.groups, strict=True)]
    alias = own_names(recurrence)
    body = OpBody(plan, alias, has_kernels=True)
    dependencies = plan.dependencies()
    loop_files = _loop_texts(recurrence, header)
    segments = segments_text(timeline, alias)
    loop_modules = tuple(name.removesuffix(".py") for name in loop_files)
    has_kernels = "recurrent_kernels.py" in loop_files
    chunk_size = _chunk_size(programs)
    parts = OpParts(
        header=header,
        forward=body.forward(),
        backward=body.backward(),
        alias=alias,
        solved=dependencies,
        modules=("chunk", "kernels", "tokens", *loop_modules),
        chunk_size=chunk_size,
        segments=segments.value,
        loop=recurrent_body(recurrence, alias, has_kernels=has_kernels, prefix="loop_"),
    )
    files = {
        "__init__.py": _op_text(recurrence, parts),
        "chunk.py": _chunk_text(recurrence, header, functions),
        "kernels.py": _kernels_text(recurrence, header, plan, programs),
        **loop_files,
        "tokens.py": _tokens_text(recurrence, header, plan, segments.functions),
        "derivation.md": derivation,
        "manifest.json": manifest_text(recurrence, digest, tier=1, reason="", plan=plan),
    }
    return _checked(Package(recurrence.name, digest, 1, files))


def emit_recurrent(recurrence: Recurrence, reason: str, derivation: str) -> Package:
    """The package of a recurrence that runs token by token; ``reason`` says why."""
    recurrence = _local(recurrence)
    header, digest = _header(recurrence), package_digest(recurrence)
    loop_files = _loop_texts(recurrence, header)
    alias = own_names(recurrence)
    has_kernels = "recurrent_kernels.py" in loop_files
    states, _ = head_sources(recurrence)
    everything = [t.name for t in (*recurrence.inputs, *recurrence.parameters)]
    forward, backward = recurrent_body(recurrence, alias, has_kernels=has_kernels)
    parts = OpParts(
        header=header,
        forward=forward,
        backward=backward,
        alias=alias,
        solved={s.name: () if states[s.name] else everything for s in recurrence.states},
        modules=(*(name.removesuffix(".py") for name in loop_files), "tokens"),
        chunk_size=ROWS,
        segments=refused_segments(alias, reason).value,
    )
    files = {
        "__init__.py": _op_text(recurrence, parts),
        **loop_files,
        "tokens.py": _tokens_text(recurrence, header, None),
        "derivation.md": derivation,
        "manifest.json": manifest_text(recurrence, digest, tier=3, reason=reason, plan=None),
    }
    return _checked(Package(recurrence.name, digest, 3, files))


def package_digest(recurrence: Recurrence) -> str:
    """Eight digits that change with the recurrence, the templates of code and the version."""
    digest = hashlib.sha256(VERSION.encode())
    digest.update(json.dumps(to_json(_local(recurrence)), sort_keys=True).encode())
    for path in sorted(templates_dir().rglob("*.py.jinja")):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:8]


def _local(recurrence: Recurrence) -> Recurrence:
    """The recurrence with its file's name alone: text does not depend on where a spec lies."""
    return replace(recurrence, file=PurePath(recurrence.file).name)


def _header(recurrence: Recurrence) -> str:
    digest = hashlib.sha256(recurrence.source.encode()).hexdigest()[:8]
    return f"# Generated by lincodegen from {recurrence.name}.yaml (sha256 {digest}). Do not edit."


def _chunk_size(programs: Sequence[Program]) -> int:
    """A power of two of tokens with at most ``ROWS`` rows on any axis."""
    slots = max(len(slots) for p in programs for _, slots in p.form.axes)
    return 1 << ((ROWS // slots).bit_length() - 1) if slots <= ROWS else 1


def _op_text(recurrence: Recurrence, parts: OpParts) -> str:
    printer = OpPrinter(recurrence, parts)
    context = printer.text()
    imports = printer.imports(render("op.py.jinja", asdict(context)))
    return render("op.py.jinja", asdict(replace(context, imports=imports)))


@dataclass(frozen=True, slots=True)
class ModuleText:
    """What ``functions.py.jinja`` prints."""

    header: str
    summary: str
    imports: str
    functions: tuple[str, ...]


def _module(context: ModuleText) -> str:
    return render("functions.py.jinja", asdict(context))


def _chunk_text(recurrence: Recurrence, header: str, functions: Sequence[TorchFunctions]) -> str:
    texts = [text.rstrip() for f in functions for text in (f.forward, f.backward)]
    runtime = sorted({name for f in functions for name in f.runtime})
    imports = "import torch\n\n" if any("torch." in text for text in texts) else ""
    imports += wrapped_import("from lincodegen.runtime.chunks import ", runtime)
    line = f"{recurrence.name}: the chunked form in PyTorch, all chunks at once."
    return _module(ModuleText(header, line, imports, tuple(texts)))


def _loop_texts(recurrence: Recurrence, header: str) -> dict[str, str]:
    """The token loop in PyTorch; it and one token in Triton where values fit into tiles."""
    texts = {"recurrent.py": f"{header}\n{recurrent_torch(recurrence)}"}
    try:
        texts["recurrent_kernels.py"] = f"{header}\n{recurrent_triton(recurrence)}"
        texts["step_kernels.py"] = f"{header}\n{step_triton(recurrence)}"
    except ScheduleError:
        return texts
    return texts


def _kernels_text(
    recurrence: Recurrence, header: str, plan: OpPlan, programs: Sequence[Program]
) -> str:
    """The Triton kernels and launchers of every group."""
    groups = [
        print_triton(schedule(p), recurrence.name, g.suffix)
        for p, g in zip(programs, plan.groups, strict=True)
    ]
    tools = frozenset(tool for g in groups for tool in g.tools)
    line = f'"""{recurrence.name}: the chunked form in Triton."""'
    return "\n".join([header, line, "", module_header(tools), *(g.text for g in groups)])


def _tokens_text(
    recurrence: Recurrence,
    header: str,
    plan: OpPlan | None,
    log_decays: Sequence[TokenFunction] = (),
) -> str:
    """Functions of one token: operands, outputs, adjoints, decays, defaults, the step itself."""
    texts = []
    for function in plan.functions if plan else ():
        doc = f"Per token: {', '.join(o.name for o in function.program.outputs)}."
        texts.append(print_torch_function(function.name, function.program, doc))
        if function.adjoint is not None:
            doc = f"The adjoint of ``{function.name}``."
            texts.append(print_torch_function(f"{function.name}_adjoint", function.adjoint, doc))
    for function in log_decays:
        doc = "Per token: the log of what scales the state."
        texts.append(print_torch_function(function.name, function.program, doc))
    texts += default_functions(recurrence)
    doc = "Outputs and next states of one token, the states written; tensors are [B, H, *shape]."
    texts.append(print_in_place("step", whole_step(recurrence), len(recurrence.states), doc))
    line = f"{summary(recurrence)[:-1]}: what is computed token by token."
    line = line if len(line) < 90 else f"{recurrence.name}: what is computed token by token."
    imports = torch_imports("\n".join(texts)).rstrip()
    return _module(ModuleText(header, line, imports, tuple(t.rstrip() for t in texts)))


def _checked(package: Package) -> Package:
    """The package, its Python files formatted and checked against the whitelist."""
    files = {
        name: formatted(text) if name.endswith(".py") else text
        for name, text in package.files.items()
    }
    for name, text in files.items():
        if name.endswith(".py"):
            check_python(f"{package.name}/{name}", text)
    return replace(package, files=files)
