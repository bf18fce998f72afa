"""The verbs and their options, frozen: whoever adds, renames or drops one changes this list too."""

from __future__ import annotations

from loopwright.cli.check import FLAGS
from loopwright.cli.explain import FLAGS as EXPLAIN
from loopwright.cli.loop_settings import loop_flags
from loopwright.cli.main import VERBS, application
from loopwright.recipes import registry

OPTIONS = {
    "train": [
        "--epochs",
        "--steps",
        "--minutes",
        "--samples",
        "--tokens",
        "--patience",
        "--precision",
        "--accumulate",
        "--clip",
        "--ema",
        "--nonfinite",
        "--capture",
        "--compile",
        "--threads",
        "--channels-last",
        "--fused",
        "--flush-denormal",
        "--device",
        "--deterministic",
        "--out",
        "--resume",
        "--allow-change",
        "--init",
        "--init-which",
        "--checkpoint-every",
        "--keep-best",
        "--log",
        "--profile",
        "--no-check",
        "--quiet",
        "--open",
        "--nproc",
        "--max-restarts",
        "--dry-run",
        "--overfit-one-batch",
        "--find-batch-size",
        "--lr-range-test",
        "--tune",
    ],
    "check": [
        "--steps",
        "--json",
        "--sarif",
        "--format",
        "--select",
        "--ignore",
        "--baseline",
        "--update-baseline",
        "--fix",
        "--diff",
    ],
    "explain": [
        "--steps",
        "--wait",
        "--whole",
        "--html",
        "--json",
        "--budget",
        "--whatifs",
        "--check",
        "--diff",
        "--show",
        "--quiet",
        "--open",
    ],
    "rules": ["RULE"],
    "evaluate": ["RUN", "--split", "--which", "--device", "--json"],
    "predict": ["RUN", "DATA", "--to", "--which", "--device", "--batch-size"],
    "export": ["RUN", "--format", "--to", "--which", "--model", "--shape"],
    "runs": ["FOLDER", "--html", "--open"],
    "report": ["RUN", "--open"],
    "verify": ["RUN", "--json"],
    "recipes": [],
    "new": ["FILE"],
}
"""Beside these: --help everywhere, --version at the top, --traceback everywhere, a recipe's own flags."""

RECIPES = {
    "digits": "lr batch_size hidden dropout weight_decay seed",
    "fashion-mnist": "data lr batch_size width dropout weight_decay seed",
    "char-lm": ("data lr batch_size context width layers heads dropout weight_decay prompt seed"),
    "images": "data size lr batch_size width dropout weight_decay seed",
    "table": "data target task ignore lr batch_size hidden dropout weight_decay seed",
}


def test_options():
    """Every verb has exactly these options, in this order."""
    app = application()
    assert list(VERBS) == list(OPTIONS)
    own = {
        "train": loop_flags(),
        "check": FLAGS,
        "explain": EXPLAIN,
    }  # these parse their words themselves
    seen = {
        verb: ["--" + one.name.replace("_", "-") for one in flags] for verb, flags in own.items()
    }
    for verb in set(VERBS) - set(own):
        arguments = app[verb].assemble_argument_collection()
        seen[verb] = [name for argument in arguments for name in argument.names]
    assert seen == OPTIONS


def test_recipes_parameters():
    """The built-in recipes and their own flags, the same words for the same things."""
    assert list(RECIPES) == registry.names()
    for name, parameters in RECIPES.items():
        assert [one.name for one in registry.get(name).parameters] == parameters.split()
