"""What is lost between the sentiment of words and the sentiment that a pre-trained model hears?

    python examples/sentiment_heard.py EVALUATION... > sentiment.md

Each EVALUATION is a folder that `sa2sr evaluate` wrote for a pre-trained model. The truth is what the teacher (VADER)
says of the reference transcripts. Beside the model's own sentiment head stands the teacher reading what the model
transcribes: where both are low, recognition is the bottleneck; where only the head is low, the head is.
"""

import sys
from pathlib import Path

from sa2sr.metrics import bootstrap, error_rate
from sa2sr.sentiment import teacher_from_name
from sa2sr.studies.records import Evaluation, evaluated_run, read_evaluation


def main(folders: list[str]) -> None:
    """Print a Markdown table, a row for each evaluation."""
    print("| model | test set | utterances | CER | AUC, sentiment head | AUC, teacher on what is transcribed |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for folder in map(Path, folders):
        problems: list[str] = []
        evaluation = read_evaluation(folder, evaluated_run(folder).name, problems)
        if evaluation is None or evaluation.hypotheses is None:
            sys.exit(f"{folder}: holds no transcripts. {' '.join(problems)}")
        print("|", " | ".join(_row(evaluation, evaluation.hypotheses)), "|")
    print("\nAUC: each class against the rest, mean of the classes; 95 % bootstrap intervals over utterances.")


def _row(evaluation: Evaluation, hypotheses: list[str]) -> list[str]:
    teacher = teacher_from_name("vader")
    truth = teacher.probabilities(evaluation.references).argmax(axis=1)
    scores = [evaluation.probabilities, teacher.probabilities(hypotheses)]
    aucs = [None if each is None else bootstrap(each, truth, metric="auc") for each in scores]
    shown = ["" if auc is None else f"{auc.value:.3f} [{auc.low:.3f}, {auc.high:.3f}]" for auc in aucs]
    cer = error_rate(hypotheses, evaluation.references, unit="character")
    return [evaluation.system, evaluation.test_set, str(len(truth)), f"{cer:.3f}", *shown]


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    main(sys.argv[1:])
