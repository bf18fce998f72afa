"""Data that cannot be trained on, and the workers that load it."""

from __future__ import annotations

from bad_input.row import Row, recipe

TRAIN = "train mine.py --out run"
KILLED = "a DataLoader worker (process "


def bad(code: int, error: str, hint: str = "", **parts) -> Row:
    """A row that trains a recipe into ``run``; ``shown`` stands above the error."""
    shown, trained = parts.pop("shown", ""), parts.pop("trained", False)
    return Row(TRAIN, code, error, hint, recipe(**parts), above=shown, trained=trained)


KINDS = {
    "data that are empty": [
        bad(1, "train_loader has no batch (mine.py:", "more data", body="loader = []"),
        bad(1, "train_loader has no batch (mine.py:", "drop_last=False",
            body="loader = DataLoader(TensorDataset(X[:3]), batch_size=8, drop_last=True)"),
        bad(1, "ValueError: num_samples should be a positive integer value",
            body="loader = DataLoader(TensorDataset(X[:0]), shuffle=True)"),
        bad(1, "the lambda gave no batch (mine.py:", "look at what it yields",
            body="loader = lambda: iter(())"),
        bad(1, "the loss of turn 1 (epoch 1) is nan", "mend the data",
            body="loader = [(X[:0], Y[:0])]", shown="input 0 is empty: float32 (0, 3)"),
        bad(1, "the lambda of this evaluation gave no batch (mine.py:", "leave it out",
            body="valid = lambda: iter(())",
            trained=True),
    ],
    "samples that do not fit together": [
        bad(1, "samples 8 and 13 do not fit into one batch: at [0] they have float32 (3) and float32 (2)"
            " (mine.py:", "pad_sequence", sample="if index == 13: return X[index][:2], 0", trained=True),
        bad(1, "samples 8 and 13 do not fit into one batch: at [0] they have float32 (3) and float32 (2)"
            " (mine.py:", "pad_sequence", sample="if index == 13: return X[index][:2], 0", workers=2,
            trained=True),
        bad(1, "sample 13 of the data set is None, of which no batch can be made (mine.py:",
            "collate_fn", sample="if index == 13: return None", trained=True),
        bad(1, "sample 0 of the data set has at [1] an object", "collate_fn",
            sample="return X[index], object()"),
        bad(1, "samples 0 and 1 do not fit into one batch: they are keys ['a'] and keys ['b']", "",
            sample="return {'a' if index == 0 else 'b': X[index]}"),
    ],
    "data of the wrong type": [
        bad(1, "RuntimeError: mat1 and mat2 must have the same dtype, but got Double and Float (mine.py:",
            "end the data set with x.float()", sample="return X[index].double(), int(Y[index])",
            shown="in turn 1, epoch 1, on a batch of float64 (8, 3), int64 (8); samples 0 to 7"),
        bad(1, "RuntimeError: mat1 and mat2 must have the same dtype, but got Long and Float (mine.py:",
            "x.float() in the data set", sample="return X[index].long(), int(Y[index])"),
        bad(1, "RuntimeError: expected target dtype to be Long or Byte, but got Double (mine.py:",
            "labels.long() in the data set", sample="return X[index], float(Y[index])"),
        bad(1, "TypeError: linear(): argument 'input' (position 1) must be Tensor, not str (mine.py:",
            "the batches hold str", body="loader = [('a', 'b')]"),
        bad(1, "RuntimeError: Tensor on device cpu is not on the expected device meta!",
            "device=run.device", body="loader = [(X.to('meta'), Y)]"),
    ],
    "data of the wrong shape": [
        bad(1, "RuntimeError: mat1 and mat2 shapes cannot be multiplied (8x3 and 4x2) (mine.py:",
            "the layer takes 4 features and was given 3", body="model = nn.Linear(4, 2)",
            shown="on a batch of float32 (8, 3), int64 (8); samples 0 to 7"),
        bad(1, "ValueError: Expected input batch_size (32) to match target batch_size (5). (mine.py:",
            "the model gives 32 rows for 5 labels", body="loader = [(X, Y[:5])]"),
        bad(2, "a batch of (inputs, target) is expected, got 3 parts (mine.py:", "compute_loss",
            body="loader = [(X, Y, Y)]"),
        bad(1, "ValueError: Expected more than 1 value per channel when training", "drop_last=True",
            body="model = nn.Sequential(nn.Linear(3, 8), nn.BatchNorm1d(8), nn.Linear(8, 2))\n"
            "loader = DataLoader(Data(), batch_size=31)", trained=True),
        bad(1, "to have 3 channels, but got 1 channels", "takes 3 channels and the pictures have 1",
            body="model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.Flatten())\n"
            "loader = [(torch.zeros(4, 1, 1, 1), Y[:4])]"),
        bad(2, "a batch of (inputs, target) is expected, got a tensor of shape (32, 3) (mine.py:",
            "compute_loss", body="loader = [X]"),
    ],
    "labels out of range": [
        bad(1, "IndexError: Target 2 is out of bounds. (mine.py:",
            "sample 13 has label 2, and the model gives 2 classes, 0 to 1: make its last layer 3 wide",
            sample="return X[index], 2 if index == 13 else 0", trained=True),
        bad(1, "IndexError: Target 2 is out of bounds. (mine.py:", "sample 13 has label 2",
            sample="return X[index], 2 if index == 13 else 0", workers=2, trained=True),
        bad(1, "IndexError: Target -1 is out of bounds. (mine.py:", "ignore_index=-1",
            sample="return X[index], -1 if index == 3 else 0"),
        bad(1, "IndexError: Target 255 is out of bounds. (mine.py:", "number the classes without gaps",
            sample="return X[index], 255 if index == 3 else 0"),
        bad(1, "IndexError: Target 2 is out of bounds. (mine.py:", "sample 1 has label 2",
            body="valid = DataLoader(TensorDataset(X, Y + 1), batch_size=8)", trained=True,
            shown="in an evaluation, on batch 1 of float32 (8, 3), int64 (8); samples 0 to 7"),
    ],
    "data that are not finite": [
        bad(1, "the loss of turn 2 (epoch 1) is nan", "mend the data",
            sample="if index == 13: return X[index] * float('nan'), 0", trained=True,
            shown="input 0 is nan in 3 of 24 values, first in sample 13"),
        bad(1, "the loss of turn 2 (epoch 1) is nan", "mend the data",
            sample="if index == 13: return X[index] / 0, 0", trained=True,
            shown="input 0 is inf in 3 of 24 values, first in sample 13"),
        bad(1, "the loss of turn 1 (epoch 1) is nan", "mend the data",
            sample="return X[index], X[index][:2] / 0 * 0", body="criterion = nn.MSELoss()",
            shown="input 1 is nan in "),
    ],
    "a sample that raises": [
        bad(1, "AssertionError: bad sample (mine.py:", sample="assert index != 13, 'bad sample'",
            shown="sample 13 of the data set raised it, in the batch of samples 8 to 15", trained=True),
        bad(1, "AssertionError: bad sample (mine.py:", sample="assert index != 13, 'bad sample'",
            shown="sample 13 of the data set raised it, in the batch of samples 8 to 15", workers=2,
            trained=True),
        bad(1, "sample 13 of the data set raised StopIteration", "raise an IndexError",
            sample="if index == 13: raise StopIteration", trained=True),
        bad(1, "FileNotFoundError: [Errno 2] No such file or directory: 'gone.png' (mine.py:",
            sample="if index == 3: open('gone.png')",
            shown="sample 3 of the data set raised it, in the batch of samples 0 to 7"),
        bad(1, "ValueError: in validation (mine.py:", body="valid = loader", trained=True,
            sample="if not torch.is_grad_enabled(): raise ValueError('in validation')",
            shown="sample 0 of the data set raised it"),
        bad(1, "OSError: gone (mine.py:", trained=True, body="loader = stream",
            above="def stream():\n    yield X, Y\n    yield X, Y\n    raise OSError('gone')",
            shown="after turn 1, epoch 1"),
    ],
    "workers that die": [
        bad(1, KILLED, "memory runs out", workers=2, trained=None,
            sample="if index == 29: os.kill(os.getpid(), signal.SIGKILL)"),
        bad(1, KILLED, "num_workers=0 shows in which line", workers=2, trained=None,
            sample="if index == 29: os.kill(os.getpid(), signal.SIGSEGV)"),
        bad(1, KILLED, "raise an exception instead", workers=2, trained=None,
            sample="if index == 29: os._exit(3)"),
        bad(1, KILLED, "raise an exception instead", workers=2, trained=None,
            sample="if index == 29: sys.exit(4)"),
        bad(1, KILLED, "memory runs out", workers=2,
            sample="if index == 0: os.kill(os.getpid(), signal.SIGKILL)"),
        bad(1, "RuntimeError: DataLoader timed out after 1 seconds (mine.py:", "a larger one",
            sample="time.sleep(600)",
            body="loader = DataLoader(Data(), batch_size=8, num_workers=2, timeout=1)"),
    ],
    "data that cannot travel to workers": [
        bad(1, "the data set cannot travel to workers that are started by spawn: its .transform is a lambda"
            " (mine.py:", "multiprocessing_context='fork'",
            body="data = Data(); data.transform = lambda x: x\n"
            "loader = DataLoader(data, num_workers=1, multiprocessing_context='spawn')"),
        bad(1, "the data set cannot travel to workers that are started by forkserver: its .file is an open"
            " file (mine.py)", "open files in the worker",
            body="data = Data(); data.file = open('mine.py')\n"
            "loader = DataLoader(data, num_workers=1, multiprocessing_context='forkserver')"),
        bad(1, "the collate_fn cannot travel to workers that are started by spawn: it is a lambda", "",
            body="loader = DataLoader(Data(), num_workers=1, collate_fn=lambda x: x,"
            " multiprocessing_context='spawn')"),
        bad(1, "the data set cannot travel to workers that are started by spawn", "",
            body="data = Data(); data.transform = lambda x: x\n"
            "valid = DataLoader(data, num_workers=1, multiprocessing_context='spawn')"),
    ],
    "loaders that are none": [
        bad(2, "a loop needs a loader that gives batches, got int 5 (mine.py:", "a DataLoader",
            body="loader = 5"),
        bad(2, "a Data gives single samples, and no batch size was given (mine.py:", "batch_size=32",
            body="loader = Data()"),
        bad(1, "the Wrong has len() 9 and ended after 4 batches (mine.py:", "__len__", trained=True,
            above="class Wrong(DataLoader):\n    def __len__(self):\n        return 9",
            body="loader = Wrong(Data(), batch_size=8)"),
        bad(1, "the data ended: an iterator can be read once", "a function that makes the iterator",
            body="loader = iter([(X, Y)])", trained=True),
    ],
}  # fmt: skip
