#!/bin/sh
# Spoken EmoBank, end to end: speak EmoBank and other texts, label them, then train and compare the systems of
# studies/emobank.yaml and write runs/emobank/report.
#
#     sh examples/spoken_emobank.sh TEXTS       TEXTS holds emobank.csv (EmoBank), meld/train_sent_emo.csv (MELD) and
#                                               sst/stsa.fine.train (SST)
#
# Interrupted, the same command goes on where it was.
set -eu
sh "$(dirname "$0")/spoken_cuts.sh" "$1"
sa2sr study emobank --jobs 2 --out runs/emobank
