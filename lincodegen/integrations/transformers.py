"""Generated ops in place of the recurrences that transformers has in plain PyTorch."""

from __future__ import annotations

import gc
import importlib
import inspect
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import torch
from torch import Tensor, nn

from lincodegen.integrations.rules import Plan, Sequences, normalised, run

FALLBACKS = {
    "torch_chunk_gated_delta_rule": "gated_delta_rule",
    "torch_recurrent_gated_delta_rule": "gated_delta_rule",
    "chunk_kimi_delta_attention": "kda",
    "recurrent_kimi_delta_attention": "kda",
}
"""The functions of modelling files that are replaced, and the op that replaces them."""

BOUND = {
    "chunk_gated_delta_rule": "gated_delta_rule",
    "fused_recurrent_gated_delta_rule": "gated_delta_rule",
    "chunk_kda": "kda",
    "fused_recurrent_kda": "kda",
}
"""What versions that import another library's functions call them, where they are there."""

PREFIXES = ("transformers.models.", "transformers_modules.")

Place = tuple[dict[str, Any], str]


class Replacement:
    """A generated op that is called as the function whose place it takes."""

    def __init__(self, original: Callable[..., Any], op: str) -> None:
        self.original = original
        self._op = op
        self._names = tuple(inspect.signature(original).parameters)
        self.__name__ = getattr(original, "__name__", op)
        self.__doc__ = original.__doc__

    def __call__(self, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor | None]:
        """Outputs [B, T, H, V] in the dtype of the queries and the final state in float32."""
        if torch.compiler.is_exporting():
            return self.original(*args, **kwargs)
        given = dict(zip(self._names, args, strict=False)) | kwargs
        q, k, v = (given[name] for name in self._names[:3])
        plan = Plan(self._op, {"q": q, "k": k, "v": v, "g": given["g"], "beta": given["beta"]})
        if given.get("use_qk_l2norm_in_kernel"):
            plan = normalised(plan)
        if given.get("scale") is not None:
            plan = Plan(plan.op, plan.tensors, {"scale": given["scale"]})
        output, state = run(
            plan,
            Sequences(
                given.get("initial_state"),
                bool(given.get("output_final_state")),
                given.get("cu_seqlens"),
                given.get("cu_seqlens_cpu"),
            ),
        )
        return output, None if state is None else state.to(torch.float32)

    def __repr__(self) -> str:
        return f"<{self._op} in place of {self.__name__}>"


class Patch:
    """Functions that were replaced; ``undo``, or the end of a ``with``, puts them back."""

    def __init__(self) -> None:
        self.replaced: list[str] = []
        self._modules: list[tuple[Place, Replacement]] = []

    def apply(self) -> None:
        """Replaces functions in every loaded modelling file and in layers that hold them."""
        made: dict[int, Replacement] = {}
        for module in _modelling_files():
            for name, op in (FALLBACKS | BOUND).items():
                original = vars(module).get(name)
                if not callable(original) or isinstance(original, Replacement):
                    continue
                new = made.setdefault(id(original), Replacement(original, op))
                vars(module)[name] = new
                self._modules.append(((vars(module), name), new))
                self.replaced.append(f"{module.__name__}.{name}")
        originals = {id(x.original): x for x in made.values()}
        for (scope, name), value in _held_by_layers(originals):
            scope[name] = originals[id(value)]

    def undo(self) -> None:
        """Puts back what was replaced, also in layers made since; a second call does nothing."""
        own = {id(new): new.original for _, new in self._modules}
        for (scope, name), new in self._modules:
            if scope.get(name) is new:
                scope[name] = new.original
        for (scope, name), value in _held_by_layers(own):
            scope[name] = own[id(value)]
        self._modules.clear()
        self.replaced.clear()

    def __enter__(self) -> Patch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.undo()

    def __repr__(self) -> str:
        return f"<patch of {len(self.replaced)} functions>"


def patch_transformers() -> Patch:
    """Puts generated ops in place of the gated delta rule and of KDA in transformers' models.

    Covers the models that the installed transformers has, files of remote code that are loaded,
    models made before the call and after it. Without ``with`` the patch stays until ``undo``.

    Raises:
        ImportError: transformers is not installed.
        LookupError: no model of the installed version has a function to replace.
    """
    patch = Patch()
    patch.apply()
    if not patch.replaced and not _already_patched():
        raise LookupError(f"no model of transformers has any of {', '.join(FALLBACKS)}")
    return patch


def _already_patched() -> bool:
    return any(isinstance(x, Replacement) for m in _loaded() for x in vars(m).values())


def _modelling_files() -> list[ModuleType]:
    """Modules with functions to replace, those imported that were not yet."""
    package = importlib.import_module("transformers")
    root = Path(str(package.__file__)).parent / "models"
    for path in sorted(root.glob("*/modeling_*.py")):
        text = path.read_text(encoding="utf-8", errors="ignore")
        if any(f"def {name}(" in text for name in FALLBACKS):
            importlib.import_module(f"transformers.models.{path.parent.name}.{path.stem}")
    return _loaded()


def _loaded() -> list[ModuleType]:
    pairs = [(n, m) for n, m in list(sys.modules.items()) if n.startswith(PREFIXES)]
    return [m for n, m in pairs if n.rpartition(".")[2].startswith("modeling_")]


def _held_by_layers(wanted: Collection[int]) -> list[tuple[Place, object]]:
    """Attributes of live layers that are one of the objects with these ids.

    Some versions bind the functions when a layer is made.
    """
    # isinstance would ask proxies of other libraries for their class
    layers: list[nn.Module] = [x for x in gc.get_objects() if issubclass(type(x), nn.Module)]
    return [
        ((vars(layer), name), value)
        for layer in layers
        for name, value in list(vars(layer).items())
        if id(value) in wanted
    ]
