"""Models, optimizers and losses that cannot be trained, and machines that are too small."""

from __future__ import annotations

from bad_input.data import bad
from bad_input.row import Row, recipe

FORWARD = "class Model(nn.Linear):\n    def forward(self, x):\n        {}"


def model(line: str) -> dict[str, str]:
    """The parts of a recipe whose model has this forward pass."""
    return {"above": FORWARD.format(line), "body": "model = Model(3, 2)"}


def loss(expression: str) -> dict[str, str]:
    """The parts of a recipe with this loss of ``model`` and ``batch``."""
    return {
        "above": "entropy = nn.functional.cross_entropy",
        "body": f"compute_loss = lambda model, batch: {expression}",
    }


ENTROPY = "entropy(model(batch[0]), batch[1])"

KINDS = {
    "models that return no tensor": [
        bad(1, "TypeError: cross_entropy_loss(): argument 'input' (position 1) must be Tensor, not tuple",
            "compute_loss=lambda model, batch: … picks from it",
            **model("return super().forward(x), x")),
        bad(1, "TypeError: cross_entropy_loss(): argument 'input' (position 1) must be Tensor, not NoneType",
            "its forward() lacks a return", **model("super().forward(x)")),
        bad(1, "TypeError: cross_entropy_loss(): argument 'input' (position 1) must be Tensor, not dict",
            "the model returns a dict", **model("return {'logits': super().forward(x)}")),
        bad(1, "KeyError: 'mine' (mine.py:", "", **model("raise KeyError('mine')"),
            shown="in turn 1, epoch 1, on a batch of float32 (8, 3), int64 (8); samples 0 to 7"),
    ],
    "models with nothing to train": [
        bad(2, "the model has no parameters (mine.py:", body="model = nn.ReLU()"),
        bad(2, "every parameter is frozen: there is nothing to train (mine.py:",
            body="model.requires_grad_(False)"),
        bad(2, "every parameter that the optimizer holds is frozen", "requires_grad_(True)",
            body="optimizer = torch.optim.SGD(model.parameters(), lr=1); model.requires_grad_(False)"),
        bad(2, "model is not a torch.nn.Module but function (mine.py:", "model=module",
            body="model = lambda x: x; optimizer = torch.optim.SGD([X], lr=1)"),
        bad(2, "model is an empty dict (mine.py:", body="model = {}"),
    ],
    "optimizers that are none, or another model's": [
        bad(2, "the optimizer holds none of the model's parameters (mine.py:", "that is given to Run",
            body="optimizer = torch.optim.SGD(nn.Linear(3, 2).parameters(), lr=1)"),
        bad(2, "optimizer is not an optimizer but str (mine.py:", "torch.optim.AdamW",
            body="optimizer = 'adam'"),
        bad(1, "ValueError: optimizer got an empty parameter list (mine.py:", "was used up before",
            body="optimizer = torch.optim.SGD([], lr=1)"),
        bad(2, "optimizer is an empty dict (mine.py:", body="optimizer = {}"),
        bad(2, "the function that makes the optimizer takes one argument, the parameters: missing a required"
            " argument: 'lr' (mine.py:", "optimizer=lambda params:",
            body="optimizer = lambda parameters, lr: torch.optim.SGD(parameters, lr=lr)"),
    ],
    "losses that are not one number": [
        bad(2, "the loss of the criterion has the shape (8,), and is not one number (mine.py:",
            "loss.mean()", body="criterion = nn.CrossEntropyLoss(reduction='none')"),
        bad(2, "the loss of compute_loss has the shape (8, 2), and is not one number (mine.py:",
            "loss.mean()", **loss("model(batch[0])")),
        bad(2, "the loss of compute_loss is a float, not a tensor (mine.py:", "no .item()",
            **loss(f"{ENTROPY}.item()")),
        bad(2, "the loss of compute_loss is None, not a tensor (mine.py:", "", **loss("None")),
        bad(2, "the loss of compute_loss is a dict, not a tensor (mine.py:", "",
            **loss(f"{{'loss': {ENTROPY}}}")),
        bad(2, "compute_loss returned 2 values; it returns the loss, or (loss, outputs, target) (mine.py:",
            **loss(f"({ENTROPY}, batch)")),
    ],
    "losses that are not attached": [
        bad(2, "the loss of compute_loss has no graph: no parameter takes part in it (mine.py:",
            "detached", **loss(f"{ENTROPY}.detach()")),
        bad(2, "the loss of compute_loss has no graph", "torch.no_grad()", **loss("torch.tensor(1.0)")),
        bad(1, "step.update(): the loss reached no parameter of the optimizer", "other parameters",
            **loss("nn.Linear(3, 1)(batch[0]).mean()")),
    ],
    "losses that are not finite": [
        bad(1, "the loss of turn 1 (epoch 1) is inf; the optimizer has not stepped", "log(0)",
            **loss(f"{ENTROPY} / 0")),
        bad(1, "the loss of turn 1 (epoch 1) is nan; the optimizer has not stepped", "log(0)",
            **loss("(model(batch[0]) * 0).log().mean() * 0")),
        bad(1, "the gradients of turn 1 are not finite, in ", "a lower lr",
            **loss("(model(batch[0]) * 0).abs().sqrt().mean()")),
        Row("train mine.py --out run --epochs 30", 1, "the loss of turn 2 (epoch 1) is nan", "a lower lr",
            recipe(
            "criterion = nn.MSELoss(); optimizer = torch.optim.SGD(model.parameters(), lr=1e30)",
            sample="return X[index], X[index][:2]"), trained=True),
    ],
    "too little memory": [
        bad(1, "RuntimeError: out of memory: 4.5 PB were asked for (mine.py:", "accumulate",
            **loss("torch.zeros(1 << 50).sum()"), shown="the tensors that are alive hold"),
        bad(1, "RuntimeError: out of memory: 4611.7 PB were asked for (mine.py:", "accumulate",
            body="model = nn.Linear(1 << 30, 1 << 30)"),
        bad(1, "MemoryError: out of memory (mine.py:", "accumulate", sample="bytearray(1 << 60)",
            shown="sample 0 of the data set raised it"),
    ],
    "state that no checkpoint can hold": [
        bad(2, "state['models']['model']['s']: Tensor of layout torch.sparse_coo cannot be stored", "dense",
            body="model.register_buffer('s', torch.zeros(2).to_sparse())"),
        bad(2, "cannot be stored in a checkpoint", "",
            above="class Odd(torch.optim.SGD):\n    def __init__(self, parameters):\n"
            "        super().__init__(parameters, lr=1)\n        self.param_groups[0]['odd'] = object()",
            body="optimizer = Odd"),
    ],
    "code of the user's around the loop that raises": [
        bad(1, "ValueError: in a callback (mine.py:", "", trained=True,
            above="def callback(run):\n    @run.on('epoch_end')\n    def end(event):\n"
            "        raise ValueError('in a callback')",
            body="return lw.Job(model=model, optimizer=optimizer, criterion=criterion,"
            " train_loader=loader, callbacks=[callback], epochs=2)",
            shown="saved in run: the state after turn 3; the same command goes on from there"),
        bad(1, "ZeroDivisionError: division by zero (mine.py:", "", trained=True,
            body="return lw.Job(model=model, optimizer=optimizer, criterion=criterion,"
            " train_loader=loader, finish=lambda run: 1 / 0, epochs=2)"),
        bad(2, "keep_best=('valid_loss', 'min') needs validation data (mine.py:", "valid_loader",
            body="return lw.Job(model=model, optimizer=optimizer, criterion=criterion,"
            " train_loader=loader, keep_best=('valid_loss', 'min'), epochs=2)"),
        bad(2, "a scheduler looks at 'nothing', which epoch 1 did not log", "", trained=True,
            body="return lw.Job(model=model, optimizer=optimizer, criterion=criterion,"
            " train_loader=loader, epochs=2, scheduler=lw.on_metric("
            "lambda o: torch.optim.lr_scheduler.ReduceLROnPlateau(o), 'nothing'))"),
        bad(1, "sys.exit('enough') was called (mine.py:", "", trained=True,
            above="def callback(run):\n    @run.on('epoch_end')\n    def end(event):\n"
            "        sys.exit('enough')",
            body="return lw.Job(model=model, optimizer=optimizer, criterion=criterion,"
            " train_loader=loader, callbacks=[callback], epochs=2)"),
    ],
}  # fmt: skip
