"""Verbs, flags and numbers that are typed wrong."""

from __future__ import annotations

from bad_input.row import Row, recipe

AT = "(command line)"

KINDS = {
    "mistyped verbs": [
        Row("trian digits", 2, f"there is no verb 'trian' {AT}", "did you mean 'train'?"),
        Row("verfy runs", 2, f"there is no verb 'verfy' {AT}", "did you mean 'verify'?"),
        Row("digits", 2, f"there is no verb 'digits' {AT}", "did you mean train digits?"),
        Row("--lr 3", 2, f"there is no verb '--lr' {AT}"),
        Row("zebra", 2, f"there is no verb 'zebra' {AT}"),
    ],
    "arguments that are missing or too many": [
        Row("train", 2, f"what shall be trained? {AT}", "loopwright train digits"),
        Row("train --epochs 3", 2, f"what shall be trained? {AT}", "loopwright recipes"),
        Row("evaluate", 2, f"RUN is missing {AT}", "evaluate --help"),
        Row("evaluate a b", 2, f"unexpected argument 'b' {AT}"),
        Row("train digits 5", 2, f"unexpected argument '5' {AT}"),
        Row("verify", 2, f"RUN is missing {AT}"),
    ],
    "mistyped flags": [
        Row("train digits --lrr 1", 2, f"unknown flag --lrr {AT}", "did you mean --lr?"),
        Row("train digits --epoch 1", 2, f"unknown flag --epoch {AT}", "did you mean --epochs?"),
        Row("train digits -x", 2, f"unknown flag -x {AT}", "train digits --help lists the flags"),
        Row("train digits --zebra", 2, f"unknown flag --zebra {AT}", "train digits --help"),
        Row("evaluate a --splt test", 2, f"unknown flag --splt {AT}", "did you mean --split?"),
        Row("verify a --jsn", 2, f"unknown flag --jsn {AT}", "did you mean --json?"),
    ],
    "flags without their value, or twice": [
        Row("train digits --lr", 2, f"--lr needs a value {AT}"),
        Row("train digits --lr 1 --lr 2", 2, f"--lr is given twice {AT}"),
        Row("train mine.py", 2, f"--data is missing {AT}", "", recipe(parameters="data: str")),
        Row("train mine.py --no-big 3", 2, f"unexpected argument '3' {AT}", "",
            recipe(parameters="big: bool = True")),
        Row("train digits --dry-run --lr-range-test", 2,
            f"--dry-run and --lr-range-test are both given {AT}", "keep one"),
    ],
    "words that a flag does not take": [
        Row("evaluate a --split all", 2, f"--split takes valid or test, not 'all' {AT}"),
        Row("export a --format onxx", 2, "--format takes safetensors, torch-export or onnx"),
        Row("train digits --log tensorbord", 2, "--log takes tensorboard, wandb, mlflow or trackio"),
        Row("train digits --resume yes", 2, "--resume takes auto, never or always, not 'yes'"),
        Row("train digits --checkpoint-every often", 2, "--checkpoint-every takes an interval",
            "500, 2epochs or 10min"),
        Row("train digits --keep-best :up", 2, "--keep-best takes the name of a value",
            "valid_accuracy:max"),
    ],
    "numbers out of range": [
        Row("train digits --lr -1", 2, f"--lr must be above 0, not -1.0 {AT}"),
        Row("train digits --batch-size 0", 2, f"--batch-size must be at least 1, not 0 {AT}"),
        Row("train digits --dropout 1", 2, "--dropout must be at least 0 and below 1, not 1.0"),
        Row("train digits --seed -1", 2, "--seed must be at least 0"),
        Row("train digits --epochs 0", 2, f"--epochs must be at least 1, not 0 {AT}"),
        Row("train digits --ema 1", 2, f"--ema must be below 1, not 1.0 {AT}"),
    ],
    "numbers of the wrong type": [
        Row("train digits --lr fast", 2, f"--lr takes a number, not 'fast' {AT}"),
        Row("train digits --batch-size 2.5", 2, f"--batch-size takes a whole number, not '2.5' {AT}"),
        Row("train digits --epochs two", 2, f"--epochs takes a whole number, not 'two' {AT}"),
        Row("predict a b --batch-size x", 2, "--batch-size takes a whole number, not 'x'"),
        Row("export a --model m:f --format onnx --shape 3,x", 2, "--shape takes whole numbers",
            "--shape 3,32,32"),
        Row("train digits --profile 20:10", 2, "--profile takes two step numbers, not '20:10'",
            "--profile 10:20"),
    ],
    "nan, inf and numbers too large": [
        Row("train digits --lr nan", 2, f"--lr takes a finite number, not 'nan' {AT}"),
        Row("train digits --lr inf", 2, f"--lr takes a finite number, not 'inf' {AT}"),
        Row("train digits --minutes inf", 2, f"--minutes takes a finite number, not 'inf' {AT}"),
        Row("train digits --clip nan", 2, f"--clip takes a number above 0, not 'nan' {AT}"),
        Row("train digits --seed 1e30", 2, "--seed must be at least 0 and below 2**32, not 1000000"),
        Row("train digits --seed 99999999999999999999", 2, "and below 2**32, not 99999999999999999999"),
    ],
    "devices that are not there": [
        Row("train digits --device cuda:99", 2, "device 'cuda:99' is not there",
            "--device auto takes what there is"),
        Row("train digits --device gpu", 2, "device 'gpu' is not one", '"cuda:1"'),
        Row("train digits --device cpu:-3", 2, "device 'cpu:-3' is not one"),
        Row("train digits --device xla", 2, "device 'xla' is not there"),
        Row("evaluate run --device cuda:7", 2, "device 'cuda:7' is not there", run=True),
    ],
    "precisions that are not there": [
        Row("train digits --precision fp64", 2, f"--precision takes fp32, bf16 or fp16, not 'fp64' {AT}"),
        Row("train s.toml", 2, "--precision takes fp32, bf16 or fp16, not 'half' (s.toml)",
            files={"s.toml": "recipe = 'digits'\nprecision = 'half'"}),
        Row("train mine.py", 2, "precision 'int8' is not known (mine.py:", files=recipe(
            "return lw.Job(model=model, optimizer=optimizer, criterion=criterion, train_loader=loader,"
            " epochs=1, precision='int8')")),
    ],
}  # fmt: skip
