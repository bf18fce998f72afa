"""Mistakes that could be made in the engine, and the tests that must fail when one is.

Each row is one change of the source: in ``file`` (below ``src/loopwright``) the text ``old``, which must
stand there exactly once, becomes ``new``; then every test in ``caught_by`` must fail. When a change of the
engine moves a text, ``python3 start.py mutants`` says which row to mend: give the text that does the same
now, or delete the row if nothing does it any more.
"""

from __future__ import annotations

from typing import NamedTuple


class Mutant(NamedTuple):
    """One mistake."""

    name: str
    file: str
    old: str
    new: str
    caught_by: tuple[str, ...]


KILLED = "test_every_operation.py::test_some_operations"
TORN = "test_every_operation.py::test_some_torn_writes"
LINES = "test_every_operation.py::test_torn_lines"
ONE, TWO, FOLDS = (f"{KILLED}[{name}]" for name in ("one loop", "two loops", "five folds"))
AGAIN = "test_every_operation.py::test_killed_in_one_loop_and_again_in_the_next"
MAIN = "test_loaders.py::test_in_the_main_process"
WORKERS = "test_loaders.py::test_with_workers"
PERSISTENT = "test_loaders.py::test_persistent_workers"
BOUNDARY = "test_loaders.py::test_at_a_boundary"
INSIDE = "test_loaders.py::test_a_loop_that_ended_inside_an_epoch"
LATER = "test_loaders.py::test_the_second_loop_of_persistent_workers[fine-tuning-stateful]"
SAMPLE = "test_kills.py::test_sample"
SCHEDULES = "test_any_schedule.py::test_a_few_schedules"
POWER = "test_power.py::test_power_cuts"
PROMISE = "test_power.py::test_a_completed_checkpoint_is_not_lost"
HISTORY = "test_power.py::test_the_history_up_to_a_checkpoint_is_not_lost"
ORDER = "test_write_order.py::test_files_are_synced_before_the_name"
OLDER = "test_write_order.py::test_older_ones_go_last"
SMALL = "test_write_order.py::test_small_files_are_whole_or_old"
FLIPPED = "test_damage.py::test_some_flipped_bits"
SHORT = "test_damage.py::test_files_cut_short"
FULL = "test_room.py::test_full_from_some_operation_on"
ONCE = "test_room.py::test_one_failing_operation"
BACKGROUND = "test_room.py::test_a_failed_background_write_is_told"
SMALL_DISK = "test_room.py::test_too_small_a_disk"
FILLS = "test_room.py::test_a_disk_that_fills_up"
LIMIT = "test_room.py::test_a_file_size_limit"
UNHARMED = "test_room.py::test_what_was_there_is_not_harmed"
SECOND = "test_two_processes.py::test_the_second_is_refused_while_the_first_lives"
MOMENT = "test_two_processes.py::test_two_at_the_same_moment"
REFUSED = "test_two_processes.py::test_a_refused_start_removes_nothing"
RESTART = "test_two_processes.py::test_restart_at_once_with_workers_alive"
CLI_KILLED = "test_command_line.py::test_killed"
CLI_AGAIN = "test_command_line.py::test_finished_again"
CLI_DAMAGED = "test_command_line.py::test_all_damaged"
CLI_RUN_JSON = "test_command_line.py::test_run_json"
CLI_FULL = "test_command_line.py::test_full_disk"

STATE = [
    Mutant(
        "the model is not loaded", "train/state/saving.py",
        'model.load_state_dict(_part(state["models"], key, "model"), strict=True)',
        '_part(state["models"], key, "model")',
        (ONE, SAMPLE, SCHEDULES),
    ),
    Mutant(
        "the optimizer's state is not loaded", "train/state/saving.py",
        'optimizer.load_state_dict(_part(state["optimizers"], key, "optimizer"))',
        '_part(state["optimizers"], key, "optimizer")',
        (ONE, FOLDS),
    ),
    Mutant(
        "the scheduler is not saved", "train/state/saving.py",
        '"schedules": {key: s.state_dict() for key, s in run.schedules.items()},',
        '"schedules": {},',
        (ONE, TWO),
    ),
    Mutant(
        "the scaler is not saved", "train/state/saving.py",
        '"precision": run.precision.state_dict(),', '"precision": {},',
        (TWO,),
    ),
    Mutant(
        "the averaged weights are not saved", "train/state/saving.py",
        '"ema": None if run.ema is None else run.ema.state_dict(),', '"ema": None,',
        (ONE,),
    ),
    Mutant(
        "the gradients of a half-filled window are not saved", "train/state/saving.py",
        "name: p.grad for name, p in model.named_parameters() if p.grad is not None",
        "name: p.grad for name, p in model.named_parameters() if False",
        (ONE,),
    ),
    Mutant(
        "the account of a half-filled window is not restored", "train/state/saving.py",
        'window.load_state_dict(_part(state["windows"], name, "optimizer"))',
        '_part(state["windows"], name, "optimizer")',
        (ONE,),
    ),
    Mutant(
        "the best value is not restored", "train/state/saving.py",
        'run.best.update(state["best"])', "pass",
        (ONE,),
    ),
    Mutant(
        "kept values are not restored", "train/state/saving.py",
        'run.kept.update(state["kept"])', "pass",
        (TWO,),
    ),
    Mutant(
        "tracked objects are not restored", "train/state/saving.py",
        'thing.load_state_dict(state["tracked"][name])', "pass",
        (ONE, TWO),
    ),
    Mutant(
        "the loops that have ended are forgotten", "train/state/saving.py",
        'run.ended.update(state["ended"])', "pass",
        (AGAIN,),
    ),
    Mutant(
        "the epoch's sums are not restored", "train/values.py",
        'self._loss, self._weight = state["loss_sum"], state["weight_sum"]', "pass",
        (ONE,),
    ),
    Mutant(
        "the turn is off by one", "train/loop.py",
        'self._epoch_seconds = state["epoch_seconds"]',
        'self._epoch_seconds = state["epoch_seconds"]; self.turn += bool(self.turn)',
        (ONE, SAMPLE),
    ),
    Mutant(
        "the epoch is off by one", "train/loop.py",
        'self._epoch_seconds = state["epoch_seconds"]',
        'self._epoch_seconds = state["epoch_seconds"]; self.epoch += bool(self.epoch)',
        (ONE, f"{BOUNDARY}[shuffled with generator-True]"),
    ),
    Mutant(
        "the background write reads live tensors", "checkpoint/store.py",
        "            packed.tensors = self._snapshot.take(packed.tensors)", "            pass",
        (ONE,),
    ),
]  # fmt: skip
DATA = [
    Mutant(
        "Python's generator is not restored", "train/process/randomness.py",
        'random.setstate(state["python"])', "pass",
        (ONE, f"{MAIN}[python sampler]"),
    ),
    Mutant(
        "torch's generator is not restored", "train/process/randomness.py",
        'torch.set_rng_state(state["torch"])', "pass",
        (ONE, f"{MAIN}[shuffled]"),
    ),
    Mutant(
        "numpy's generator is not restored", "train/process/randomness.py",
        'numpy.random.set_state(state["numpy"])', "pass",
        (ONE,),
    ),
    Mutant(
        "the generators are restored before the iterator is made, not after", "train/data/source.py",
        """                self.own.restore(state["own"], but=self._feed.restores)
                randomness.restore(generators, device)
            return""",
        "                pass\n            return",
        (ONE, f"{MAIN}[shuffled]", f"{WORKERS}[shuffled]"),
    ),
    Mutant(
        "the loader's own generator is not restored", "train/data/source.py",
        'self.own.restore(start["own"], but=self._feed.restores)', "pass",
        (f"{MAIN}[shuffled with generator]", f"{MAIN}[weighted with generator]"),
    ),
    Mutant(
        "the position in the data is off by one", "train/data/source.py",
        'self._feed.reopen(feed, state["position"], at_start, count)',
        'self._feed.reopen(feed, state["position"] - 1, at_start, count)',
        (f"{MAIN}[sequential]", f"{MAIN}[stream]", f"{WORKERS}[shuffled]"),
    ),
    Mutant(
        "an epoch begins anew instead of inside", "train/data/source.py",
        'if begun or feed.get("alive"):', "if False:",
        (f"{MAIN}[shuffled]", f"{MAIN}[function]", f"{WORKERS}[stream]", TWO),
    ),
    Mutant(
        "the workers' generators are not restored", "train/data/workers.py",
        "            _unpack(packed)\n", "            pass\n",
        (f"{WORKERS}[shuffled]", f"{PERSISTENT}[shuffled-random]"),
    ),
    Mutant(
        "the workers are taken in another order", "train/data/workers.py",
        "first = position % self._num_workers", "first = 0",
        ("test_loaders.py::test_three_workers",),
    ),
    Mutant(
        "workers of a loop that had ended are forgotten", "train/data/workers.py",
        '_LEFT[loader] = state["left"]', "pass",
        (f"{INSIDE}[weighted-persistent-steps]", f"{INSIDE}[weighted-persistent-samples]"),
    ),
    Mutant(
        "a sampler's draws between the bodies are not noted", "train/data/draws.py",
        "randomness.restore(self._notes.get(number, {}))", "pass",
        (f"{MAIN}[stream]", f"{MAIN}[function]", f"{WORKERS}[lazy sampler]"),
    ),
    Mutant(
        "a loader with a state is not given it", "train/data/stateful_feed.py",
        "        self.loader.load_state_dict(place)\n        at_start()", "        at_start()",
        (f"{MAIN}[stateful]", f"{WORKERS}[stateful]"),
    ),
    Mutant(
        "the order under such a loader begins before the loader's own draw",
        "train/data/stateful_iterator.py",
        "        if self._at_once and not self._drawn:\n            self._begin()\n", "",
        (f"{MAIN}[stateful weighted]",),
    ),
    Mutant(
        "such a loader's workers that outlive a loop are taken for new ones",
        "train/data/stateful_feed.py",
        'return {"workers": dict(reports.states), "loader": own}',
        'return {"workers": {}, "loader": own}',
        (LATER,),
    ),
    Mutant(
        "such a loader's next loop gets new workers", "train/data/stateful_feed.py",
        "            _LEFT[self.loader] = {", "            _ = {",
        (f"{INSIDE}[stateful-persistent-steps]",),
    ),
]  # fmt: skip
DISK = [
    Mutant(
        "the manifest is written first", "checkpoint/format.py",
        """    with disk.HashedFile(folder / STATE) as file:
        file.write(_state_json(packed, sequence))
""",
        """    with disk.HashedFile(folder / MANIFEST) as file:
        file.write(dump(Manifest(sequence, "", packed.meta, files)))
        file.finish()
    (folder / MANIFEST).unlink()
    with disk.HashedFile(folder / STATE) as file:
        file.write(_state_json(packed, sequence))
""",
        (ORDER,),
    ),
    Mutant(
        "the fsync of files is dropped", "checkpoint/disk.py",
        "        sync(self._fd)\n", "",
        (ORDER, SMALL, POWER),
    ),
    Mutant(
        "the fsync of a new checkpoint's folder is dropped", "checkpoint/format.py",
        "    disk.sync_folder(folder)\n", "",
        (ORDER, PROMISE),
    ),
    Mutant(
        "the fsync after the rename is dropped", "checkpoint/publish.py",
        """        disk.sync_folder(folder)
        if (folder / f".old-{name}").exists():""",
        """        if (folder / f".old-{name}").exists():""",
        (OLDER, PROMISE),
    ),
    Mutant(
        "the run's folder is not made durable", "checkpoint/disk.py",
        "    sync_folder(folder.parent)\n", "",
        (PROMISE,),
    ),
    Mutant(
        "a file is renamed before its fsync", "checkpoint/disk.py",
        """            file.write(data)
            file.finish()
        rename(temporary, path)""",
        """            file.write(data)
            rename(temporary, path)
            file.finish()""",
        (SMALL, POWER),
    ),
    Mutant(
        "the history is not synced before a checkpoint", "train/folder/writing.py",
        "self._run.history.sync()", "pass",
        (HISTORY,),
    ),
    Mutant(
        "older checkpoints are deleted before the newer is there", "checkpoint/store.py",
        "        made = publish.publish(self.folder, name, packed, number, shards)\n",
        """        for entry in before[:-1]:
            if entry.name not in self._protection.names:
                publish.discard(self.folder, entry.name)
        made = publish.publish(self.folder, name, packed, number, shards)
""",
        (OLDER,),
    ),
    Mutant(
        "a checkpoint is written in place", "checkpoint/publish.py",
        'temporary = folder / f".tmp-{name}"', "temporary = folder / name",
        (ORDER, ONE, TORN),
    ),
    Mutant(
        "an ended loop's checkpoint is not protected", "train/folder/writing.py",
        """        if ended:
            self._store.protect(name)
""",
        "",
        (TWO,),
    ),
    Mutant(
        "best.safetensors is written after the checkpoint that names it", "train/lifecycle.py",
        """        self._run.best_weights.write()
        self._run.files.save(
            self._collect(loop, ended), loop, reason,""",
        """        self._run.files.save(
            self._collect(loop, ended), loop, reason,""",
        ("test_write_order.py::test_best_weights_go_first",),
    ),
    Mutant(
        "turns that are trained again stand twice in the history", "train/lifecycle.py",
        "self._run.history.forget_after(loop.base + loop.turn)", "pass",
        (ONE,),
    ),
    Mutant(
        "losses that wait in memory are not written before a checkpoint", "train/lifecycle.py",
        """            loop.visit_host()
            self.save(loop, reason=reason)
""",
        "            self.save(loop, reason=reason)\n",
        (ONE,),
    ),
    Mutant(
        "lines whose write failed are dropped", "train/folder/history.py",
        """            except OSError as error:
                raise DiskError(
                    f"cannot write""",
        """            except OSError as error:
                self._lines = []
                raise DiskError(
                    f"cannot write""",
        ("test_room.py::test_the_history_fails_once",),
    ),
    Mutant(
        "a torn line swallows the next one", "train/folder/history.py",
        'file.write(b"\\n")', "pass",
        (LINES,),
    ),
]  # fmt: skip
DAMAGE = [
    Mutant(
        "hashes are not compared", "checkpoint/manifest.py",
        "if reader.sha256 != entry.sha256:", "if False:",
        (f"{FLIPPED}[interrupted]", f"{FLIPPED}[finished]"),
    ),
    Mutant(
        "the hash of weights is not compared", "checkpoint/weights.py",
        "if reader.sha256 != claimed:", "if False:",
        (f"{FLIPPED}[finished]",),
    ),
    Mutant(
        "only one checkpoint is kept", "checkpoint/retention.py",
        "kept = set(sound[-keep:])\n    if len(kept) < keep:", "kept = set(sound[-1:])\n    if not kept:",
        (f"{SHORT}[interrupted-half]", OLDER),
    ),
    Mutant(
        "a damaged newest checkpoint is not passed over", "checkpoint/store.py",
        "                passed.append(error)\n                continue\n", "                raise\n",
        (f"{FLIPPED}[interrupted]", f"{SHORT}[interrupted-gone]"),
    ),
    Mutant(
        "nothing is said of a damaged checkpoint", "checkpoint/store.py",
        'loaded.notes = [f"{error.what}; going on from {entry.name!r}" for error in passed]',
        "pass",
        (f"{FLIPPED}[interrupted]", f"{SHORT}[finished-gone]"),
    ),
    Mutant(
        "with all checkpoints damaged it begins anew", "train/folder/writing.py",
        """            return None
        return self._store.load()[0]
""",
        """            return None
        try:
            return self._store.load()[0]
        except CheckpointError:
            return None
""",
        (CLI_DAMAGED,),
    ),
    Mutant(
        "a run.json that lacks something is a crash", "train/folder/reading.py",
        """    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise _not_a_run(folder, f"run.json lacks""",
        """    except ZeroDivisionError as error:
        raise _not_a_run(folder, f"run.json lacks""",
        (CLI_RUN_JSON,),
    ),
]  # fmt: skip
PROCESSES = [
    Mutant(
        "the lock is not taken", "checkpoint/posix.py",
        "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)", "pass",
        (SECOND, MOMENT),
    ),
    Mutant(
        "the lock is one that forked workers hold", "checkpoint/posix.py",
        "fcntl.lockf(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        "fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)",
        (RESTART,),
    ),
    Mutant(
        "a finished run is trained again", "train/lifecycle.py",
        "if ended is not None and not extends:", "if False:",
        (CLI_AGAIN,),
    ),
    Mutant(
        "what a killed end left is not finished", "train/lifecycle.py",
        "if left and newest is not None and", "if False and",
        (CLI_KILLED,),
    ),
    Mutant(
        "a disk that fails is told in other words", "checkpoint/disk.py",
        'slug="disk-failed"', 'slug="internal-error"',
        (ONCE,),
    ),
    Mutant(
        "an error of the background write is lost", "checkpoint/writer.py",
        "        job.result()\n", "",
        (BACKGROUND,),
    ),
    Mutant(
        "a full disk is not told from other errors", "checkpoint/disk.py",
        "NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)", "NO_ROOM = ()",
        (FILLS, CLI_FULL),
    ),
    Mutant(
        "room is not looked for before the first turn", "train/folder/writing.py",
        "self._store.room_for(size_of(state)", "int(size_of(state)",
        (SMALL_DISK,),
    ),
    Mutant(
        "a short write is taken for a whole one", "checkpoint/disk.py",
        "    while data:\n        data = data[os.write(fd, data) :]\n", "    os.write(fd, data)\n",
        (LIMIT,),
    ),
    Mutant(
        "a disk error of a small file is a bare OSError", "train/folder/plain_files.py",
        'with disk.failures(f"write {path.name}", path, needed=len(data)):', "if True:",
        (FULL,),
    ),
    Mutant(
        "a failed write cleans up too much", "checkpoint/publish.py",
        """                disk.remove_folder(temporary)
            raise
        disk.sync""",
        """                for other in folder.glob("loop-*"):
                    disk.remove_folder(other)
            raise
        disk.sync""",
        (UNHARMED,),
    ),
    Mutant(
        "a refused start cleans up after another process", "train/folder/writing.py",
        "        elif self._mine:", "        else:",
        (REFUSED,),
    ),
]  # fmt: skip
MUTANTS = [*STATE, *DATA, *DISK, *DAMAGE, *PROCESSES]
