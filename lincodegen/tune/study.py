"""Records as studies of Optuna, in a file that optuna-dashboard opens.

The file is a copy to look at: nothing is read back from it, and the records stay the truth.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import CategoricalDistribution
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FrozenTrial, TrialState, create_trial

from lincodegen.config import OpConfig
from lincodegen.errors import RecordError
from lincodegen.tune.records import Record


@dataclass(frozen=True, slots=True)
class Studies:
    """The studies of a file: how many trials each has, by name."""

    path: Path
    trials: Mapping[str, int]

    @property
    def ok(self) -> bool:
        """Whether there is anything to look at."""
        return bool(self.trials)

    def to_json(self) -> dict[str, object]:
        """The same facts as JSON values."""
        return {"ok": self.ok, "study": str(self.path), "trials": dict(self.trials)}

    def __str__(self) -> str:
        if not self.trials:
            return "nothing is on record of these ops; run without --study first"
        rows = [f"{name}: {count} trials" for name, count in self.trials.items()]
        return "\n".join([*rows, f"optuna-dashboard {self.path}"])


def write_studies(records: Iterable[Record], path: Path) -> Studies:
    """Writes a study for each op, class of calls and device; what was at the path is replaced.

    Raises:
        RecordError: the file could not be written; what was there is as it was.
    """
    groups: dict[str, list[Record]] = {}
    for r in records:
        groups.setdefault(f"{r.op}, {r.bucket}, {r.provenance.device}", []).append(r)
    if not groups:
        return Studies(path, {})
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    try:
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            written = Path(folder) / path.name
            storage = JournalStorage(JournalFileBackend(str(written)))
            for name, group in groups.items():
                study = optuna.create_study(storage=storage, study_name=name, direction="minimize")
                study.set_user_attr("value", "microseconds of a call, the median")
                study.add_trials(_trials(group))
            written.replace(path)
    except OSError as error:
        raise RecordError(f"{path}: the study was not written: {error.strerror}") from error
    return Studies(path, {name: len(group) for name, group in groups.items()})


def _trials(records: Iterable[Record]) -> list[FrozenTrial]:
    """A trial for each record; of one parameter all have the same choices, as Optuna demands."""
    rows = [(r, parameters(r.config)) for r in records]
    values: dict[str, set[Any]] = {}
    for _, own in rows:
        for name, value in own.items():
            values.setdefault(name, set()).add(value)
    choices = {
        name: CategoricalDistribution(sorted(found, key=lambda x: (isinstance(x, str), x)))
        for name, found in values.items()
    }
    return [_trial(r, own, {name: choices[name] for name in own}) for r, own in rows]


def _trial(
    record: Record, own: dict[str, Any], choices: dict[str, CategoricalDistribution]
) -> FrozenTrial:
    times = record.times
    about: dict[str, Any] = {
        **asdict(record.gate),
        **asdict(record.resources),
        **asdict(record.provenance),
    }
    if times is not None:
        about |= {"p20": 1e6 * times.p20, "p80": 1e6 * times.p80, "runs": times.runs}
    seconds = times.median if times is not None and record.usable else None
    trial = create_trial(
        state=TrialState.FAIL if seconds is None else TrialState.COMPLETE,
        value=None if seconds is None else 1e6 * seconds,
        params=own,
        distributions=dict(choices),
        user_attrs=about,
    )
    # a record has the one time at which it was kept
    trial.datetime_start = trial.datetime_complete = datetime.fromtimestamp(record.provenance.time)
    return trial


def parameters(config: OpConfig) -> dict[str, Any]:
    """The values of a configuration by name, those of kernels as in ``scan_fwd.tile_k``."""
    data = config.to_json()
    kernels, own = data.pop("kernels"), data.pop("torch", {})
    rows = {f"{label}.{n}": value for label, row in kernels.items() for n, value in row.items()}
    found = {**data, **own, **rows}
    return {name: "default" if value is None else value for name, value in found.items()}
