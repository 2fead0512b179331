"""What a model keeps of the tokens that it has seen, for generation."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


class Cache:
    """States of the op, last inputs of windows and numbers of tokens seen, by layer.

    All tensors begin with the sequence: [N, ...]. A mixer reads the entries of its layer and
    replaces them, or writes the states in place.
    """

    def __init__(self) -> None:
        self.layers: dict[int, dict[str, Tensor]] = {}

    def layer(self, index: int) -> dict[str, Tensor]:
        """The entries of a layer, none before its first call."""
        return self.layers.setdefault(index, {})

    @property
    def sequences(self) -> int | None:
        """How many sequences are held, None before the first call."""
        return next((x.shape[0] for held in self.layers.values() for x in held.values()), None)

    def reorder(self, indices: Tensor) -> None:
        """Keeps the sequences ``indices`` [M], in that order; for beams, some of them twice."""
        for held in self.layers.values():
            held.update({name: x.index_select(0, indices) for name, x in held.items()})

    def clone(self) -> Cache:
        """A copy that later calls do not change."""
        copy = Cache()
        copy.layers = {
            index: {name: x.clone() for name, x in held.items()}
            for index, held in self.layers.items()
        }
        return copy

    def crop(self, length: int) -> None:
        """Refused: a state holds no token that could be taken out of it again.

        Raises:
            NotImplementedError: always.
        """
        raise NotImplementedError(
            f"crop to {length} tokens: a recurrent state cannot forget its last tokens; expected: "
            "a clone() of the cache made before them"
        )
