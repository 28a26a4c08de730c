#!/bin/sh
# Real speech, end to end: pre-train ASR and SA2SR on LibriSpeech (train-clean-100, dev-clean) and speechocean762,
# fine-tune on RAVDESS, test on speakers that no training heard, and write runs/real-speech/report.
#
#     sh examples/real_speech.sh CORPORA        CORPORA holds the folders LibriSpeech, speechocean762 and RAVDESS
#
# About ten hours of speech: two hours on two cores. Interrupted, the same command goes on where it was.
set -eu
sh "$(dirname "$0")/real_cuts.sh" "$1"
sa2sr study real-speech --jobs 2 --out runs/real-speech
