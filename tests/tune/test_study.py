"""Records as studies of Optuna: what optuna-dashboard opens is read back with Optuna itself."""

import json

import optuna
import pytest
from click.testing import CliRunner
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from record_cases import BUCKET, CONFIG, record

from lincodegen.cli import main
from lincodegen.config import OpConfig, TorchConfig
from lincodegen.errors import RecordError
from lincodegen.tune.journal import Writer
from lincodegen.tune.records import Gate
from lincodegen.tune.study import parameters, write_studies

WRONG = Gate("wrong", "as planted", 3, "ab")
SLOW = OpConfig(32, CONFIG.kernels[:1], "split")


def loaded(path):
    storage = JournalStorage(JournalFileBackend(str(path)))
    names = optuna.get_all_study_names(storage)
    return {name: optuna.load_study(study_name=name, storage=storage) for name in names}


def test_each_record_is_a_trial_with_all_that_is_known(tmp_path):
    records = record(0), record(1, config=SLOW, median=2e-3), record(2, gate=WRONG)
    path = tmp_path / "study.log"
    written = write_studies(records, path)
    ((name, study),) = loaded(path).items()
    assert written.trials == {name: 3}
    assert name == f"probe, {BUCKET}, Device 1"
    assert "microseconds" in study.user_attrs["value"]
    best = study.best_trial
    assert best.value == pytest.approx(1000)
    assert best.params == parameters(CONFIG)
    assert best.params["scan_fwd.tile_v"] == 64
    assert best.user_attrs["verdict"] == "passed"
    assert best.user_attrs["p80"] == pytest.approx(1100)
    assert best.user_attrs["host"] == "host"
    assert best.datetime_complete.timestamp() == 0.0
    states = [t.state.name for t in study.trials]
    assert states == ["COMPLETE", "COMPLETE", "FAIL"]
    assert study.trials[2].user_attrs["detail"] == "as planted"
    assert study.trials[1].params["schedule"] == "split"


def test_each_op_bucket_and_device_is_a_study(tmp_path):
    other = BUCKET._replace(heads=1)
    records = record(), record(bucket=other), record(op="other"), record(device="Device 2")
    path = tmp_path / "study.log"
    assert len(write_studies(records, path).trials) == len(loaded(path)) == 4


def test_what_is_chosen_of_the_pytorch_form_has_names():
    config = OpConfig(64, torch=TorchConfig(16, 4096))
    assert parameters(config) == {
        "chunk_size": 64,
        "schedule": "default",
        "solve_block": 16,
        "block_elements": 4096,
        "threads": "default",
    }


def test_a_study_takes_the_place_of_an_earlier_one(tmp_path):
    path = tmp_path / "study.log"
    for count in (3, 1):
        write_studies([record(i) for i in range(count)], path)
    (study,) = loaded(path).values()
    assert len(study.trials) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["study.log"]


def test_a_folder_that_is_not_there_is_said(tmp_path):
    with pytest.raises(RecordError, match="was not written: No such file"):
        write_studies([record()], tmp_path / "nowhere" / "study.log")


def test_from_the_command_line(tmp_path, monkeypatch):
    monkeypatch.setenv("LINCODEGEN_CONFIG_DIR", str(tmp_path))
    command = ["tune", "retention", "--study", str(tmp_path / "study.log")]
    nothing = CliRunner().invoke(main, command)
    assert nothing.exit_code == 1
    assert "nothing is on record" in nothing.stdout
    with Writer(tmp_path / "records") as writer:
        writer.append(record(op="retention"))
        writer.append(record(op="gla"))
    done = CliRunner().invoke(main, [*command, "--json"])
    assert done.exit_code == 0, done.output
    assert list(json.loads(done.stdout)["trials"].values()) == [1]
    assert len(loaded(tmp_path / "study.log")) == 1
    both = CliRunner().invoke(main, [*command, "--offline"])
    assert both.exit_code == 2
