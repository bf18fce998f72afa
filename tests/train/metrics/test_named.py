"""Metrics by name, each against scikit-learn."""

from __future__ import annotations

import importlib.util
import math

import numpy as np
import pytest
import sklearn.metrics as reference
import torch

from loopwright.errors import DataError, UsageError
from loopwright.train.metrics.meters import Accuracy, Mean
from loopwright.train.metrics.named import MetricSet, metric
from nosync import NoSync


def classification(samples: int = 71, classes: int = 5):
    """Return logits and targets of which one class never occurs."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(samples, classes, generator=random)
    target = torch.randint(classes - 1, (samples,), generator=random)
    logits[torch.arange(samples), target] += 1.0
    return logits, target


def feed(each, outputs, target):
    """Feed ragged batches without synchronisation and return the result."""
    each.update(outputs[:1], target[:1])
    each.reset()
    with NoSync():
        for one, two in zip(outputs.split(32), target.split(32), strict=True):
            each.update(one, two)
    return each.compute()


@pytest.mark.parametrize("average", ["macro", "micro", "weighted"])
@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
def test_class_metrics_equal_scikit_learn(name, average):
    """F1, precision and recall of ragged batches are scikit-learn's of the whole set."""
    logits, target = classification()
    result = feed(metric(name, average=average), logits, target)
    score = getattr(reference, f"{name}_score")
    expected = score(target, logits.argmax(1), average=average, zero_division=0)
    assert float(result) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["f1", "precision", "recall"])
@pytest.mark.parametrize("shape", [(71,), (71, 1)])
def test_one_logit_is_scored_for_class_one(name, shape):
    """One logit per target is cut at 0 and scored for class 1, as scikit-learn does."""
    random = torch.Generator().manual_seed(1)
    logits = torch.randn(71, generator=random)
    target = torch.randint(2, (71,), generator=random)
    result = feed(metric(name), logits.view(shape), target.float())
    expected = getattr(reference, f"{name}_score")(target, logits > 0)
    assert float(result) == pytest.approx(expected, rel=1e-6)


def test_two_logits_are_a_macro_average():
    """Two logits are two classes like any others."""
    logits, target = classification(classes=2)
    target[:30] = 1
    expected = reference.f1_score(target, logits.argmax(1), average="macro")
    assert float(feed(metric("f1"), logits, target)) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("normalize", [None, "true"])
def test_confusion_matrix_equals_scikit_learn(normalize):
    """Rows are targets, columns predictions."""
    logits, target = classification()
    target[0] = 4
    result = feed(metric("confusion_matrix", normalize=normalize), logits, target)
    expected = reference.confusion_matrix(target, logits.argmax(1), normalize=normalize)
    np.testing.assert_allclose(result.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("name", ["accuracy", "top2", "top-3", "top4_accuracy"])
def test_accuracies_equal_scikit_learn(name):
    """Accuracy and top-k by name are in the base install and exact."""
    logits, target = classification()
    if name == "accuracy":
        expected = reference.accuracy_score(target, logits.argmax(1))
    else:
        k = int(next(c for c in name if c.isdigit()))
        expected = reference.top_k_accuracy_score(target, logits, k=k, labels=range(5))
    assert isinstance(metric(name), Accuracy)
    assert feed(metric(name), logits, target) == pytest.approx(expected, rel=1e-15)


@pytest.mark.parametrize("shape", [(71,), (71, 1), (71, 3)])
@pytest.mark.parametrize(
    ("name", "score"),
    [
        ("mae", reference.mean_absolute_error),
        ("rmse", lambda t, p: math.sqrt(reference.mean_squared_error(t, p))),
        ("r2", reference.r2_score),
    ],
)
def test_regression_equals_scikit_learn(name, score, shape):
    """MAE, RMSE and R² of ragged float32 batches far from zero keep float64's digits."""
    random = torch.Generator().manual_seed(2)
    target = 1000 + torch.randn(shape, generator=random)
    outputs = target + 0.3 * torch.randn(shape, generator=random)
    expected = score(target.double().numpy(), outputs.double().numpy())
    result = feed(metric(name), outputs, target)
    assert float(result) == pytest.approx(expected, rel=1e-9)


def test_regression_squeezes_a_last_dimension_and_never_broadcasts():
    """Outputs (N, 1) fit a target (N,); other differences are an error with both shapes."""
    outputs, target = torch.randn(7, 1), torch.randn(7)
    expected = (outputs.squeeze(1) - target).abs().mean()
    assert float(feed(metric("mae"), outputs, target)) == pytest.approx(float(expected))
    assert float(feed(metric("mae"), target, outputs)) == pytest.approx(float(expected))
    with pytest.raises(UsageError, match=r"\(7, 2\).*\(7,\)"):
        metric("mae").update(torch.randn(7, 2), target)


def test_r2_of_one_sample_is_nan():
    """R² of one sample is not defined."""
    r2 = metric("r2")
    r2.update(torch.zeros(1), torch.ones(1))
    assert math.isnan(r2.compute())


@pytest.mark.parametrize("last", [True, False])
def test_perplexity_equals_scikit_learn(last):
    """Perplexity is exp of scikit-learn's log loss over the targets that are not ignored."""
    random = torch.Generator().manual_seed(3)
    logits = torch.randn(71, 4, 6, generator=random)
    target = torch.randint(6, (71, 4), generator=random)
    target[:, -1] = -100
    kept = target != -100
    probabilities = logits.double().softmax(-1)[kept]
    expected = math.exp(reference.log_loss(target[kept], probabilities, labels=range(6)))
    outputs = logits if last else logits.movedim(-1, 1)
    assert float(feed(metric("perplexity"), outputs, target)) == pytest.approx(expected, rel=1e-9)


def test_perplexity_of_a_very_wrong_answer_is_finite():
    """A probability below the smallest float32 is not rounded to zero."""
    perplexity = metric("perplexity")
    perplexity.update(torch.tensor([[0.0, 200.0], [0.0, 0.0]]), torch.tensor([0, 1]))
    assert float(perplexity.compute()) == pytest.approx(math.exp((200 + math.log(2)) / 2))


def test_ignored_targets_do_not_count():
    """Targets of -100 count in no metric of classes."""
    logits, target = classification()
    padded = target.clone()
    padded[::3] = -100
    kept = padded != -100
    for name in ("accuracy", "f1", "precision", "recall", "top2"):
        expected = feed(metric(name), logits[kept], target[kept])
        assert float(feed(metric(name), logits, padded)) == pytest.approx(float(expected), rel=1e-6)


def test_targets_outside_the_classes_are_said():
    """A target that no logit stands for is an error with the count, not a dropped sample."""
    f1 = metric("f1")
    f1.update(torch.randn(4, 3), torch.tensor([0, 1, 7, -1]))
    with pytest.raises(DataError, match="2 targets or predictions lie outside the 3 classes"):
        f1.compute()


def test_classes_need_their_number():
    """Outputs that are classes already need classes=, and then count."""
    predicted, target = torch.tensor([0, 1, 2, 2]), torch.tensor([0, 1, 1, 2])
    with pytest.raises(UsageError, match="classes instead of logits"):
        metric("f1").update(predicted, target)
    f1 = metric("f1", classes=3)
    f1.update(predicted, target)
    expected = reference.f1_score(target, predicted, average="macro")
    assert float(f1.compute()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("name", ["f1", "mae", "rmse", "r2", "perplexity", "accuracy"])
def test_nothing_is_nan(name):
    """A metric that was fed nothing is NaN, quietly."""
    made = metric(name)
    made.reset()
    assert math.isnan(float(made.compute()))


@pytest.mark.parametrize(
    ("wrong", "right"), [("acuracy", "accuracy"), ("F1", "f1"), ("rsme", "rmse")]
)
def test_a_mistaken_name_gets_the_nearest(wrong, right):
    """An unknown name lists the names and guesses the one that was meant."""
    with pytest.raises(UsageError, match="there is no metric") as caught:
        metric(wrong)
    assert caught.value.hint == f"did you mean {right!r}?"


def test_wrong_settings_are_said():
    """A setting that the metric does not have, or a value that it cannot take, is an error."""
    with pytest.raises(UsageError, match="tok_k"):
        metric("accuracy", tok_k=5)
    with pytest.raises(UsageError, match="average is 'mean'"):
        metric("f1", average="mean")


def test_without_torchmetrics_the_extra_is_named(monkeypatch):
    """Where torchmetrics is missing, accuracy works and the others say what to install."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    metric("accuracy")
    with pytest.raises(UsageError) as caught:
        metric("f1")
    assert "pip install 'loopwright[metrics]'" in str(caught.value)


def test_a_set_takes_names_objects_and_dicts():
    """Names, objects and dicts of both become one set with the names that are shown."""
    assert list(MetricSet("accuracy")) == ["accuracy"]
    assert list(MetricSet({"hits": "accuracy", "top": Accuracy(2)})) == ["hits", "top"]
    assert list(MetricSet("classification")) == ["accuracy", "f1", "precision", "recall"]
    assert list(MetricSet({"val": "regression"})) == ["val_mae", "val_rmse", "val_r2"]
    assert len(MetricSet()) == 0


def test_a_set_refuses_what_is_no_metric():
    """Two of one name, classes, functions and lw.Mean are refused at construction."""
    for bad, said in [
        (["accuracy", "accuracy"], "two metrics are named"),
        ([Accuracy], "is no metric"),
        ([max], "is no metric"),
        ([Mean()], "takes values"),
    ]:
        with pytest.raises(UsageError, match=said):
            MetricSet(bad)


def test_a_set_feeds_all_without_synchronisation():
    """update() of every named metric waits for nothing; compute() gives floats."""
    logits, target = classification()
    metrics = MetricSet(["classification", "top2", "confusion_matrix", "perplexity"])
    assert math.isnan(metrics.compute()["f1"])
    metrics.update(logits[:5], target[:5])
    metrics.reset()
    with NoSync(), torch.autocast("cpu", dtype=torch.bfloat16):
        for one, two in zip(logits.split(32), target.split(32), strict=True):
            metrics.update(one, two)
    values = metrics.compute()
    assert "confusion_matrix" not in values
    assert metrics.results()["confusion_matrix"].sum() == 71
    assert all(type(value) is float for value in values.values())
    assert values["accuracy"] == pytest.approx(reference.accuracy_score(target, logits.argmax(1)))
    expected = torch.nn.functional.cross_entropy(logits.double(), target).exp()
    assert values["perplexity"] == pytest.approx(float(expected), rel=1e-12)


def test_a_set_takes_torchmetrics_and_own_objects():
    """A torchmetrics collection gives one number per member; an own object may take any outputs."""
    import torchmetrics.classification as theirs

    class Count:
        def __init__(self):
            self.reset()

        def update(self, outputs, target):
            self.seen += len(target)

        def compute(self):
            return {"samples": self.seen}

        def reset(self):
            self.seen = 0

    logits, target = classification()
    metrics = MetricSet({"theirs": theirs.MulticlassAccuracy(5, average="micro"), "n": Count()})
    metrics.update(logits, target)
    assert metrics.compute() == {
        "theirs": pytest.approx(reference.accuracy_score(target, logits.argmax(1))),
        "n_samples": 71.0,
    }
    assert metrics["n"].seen == 71
    metrics = MetricSet([Count()])
    metrics.update({"logits": logits}, target)
    assert metrics.compute() == {"count_samples": 71.0}
    with pytest.raises(UsageError, match="they are dict"):
        MetricSet(["accuracy"]).update({"logits": logits}, target)
