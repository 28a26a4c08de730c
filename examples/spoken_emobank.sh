#!/bin/sh
# Spoken EmoBank, end to end: speak EmoBank and other texts, label them, then train and compare the systems of
# studies/emobank.yaml and write runs/emobank/report.
#
#     sh examples/spoken_emobank.sh TEXTS       TEXTS holds emobank.csv (EmoBank), meld/train_sent_emo.csv (MELD) and
#                                               sst/stsa.fine.train (SST)
#
# Interrupted, the same command goes on where it was.
set -eu
texts=$1
cuts=cuts/spoken-emobank

if [ ! -e $cuts/prepared ]; then
    sa2sr prepare emobank "$texts/emobank.csv" $cuts/emobank --max-words 12 --test-voicings 3 --rate 200
    # What pre-training hears: the sentences of train, MELD and SST, by the training voices; nothing of dev and test.
    speak() {
        sa2sr prepare text "$@" --rate 200 --dev-share 0.03 \
            --exclude $cuts/emobank/test.jsonl.gz --exclude $cuts/emobank/dev.jsonl.gz
    }
    speak $cuts/emobank/train.jsonl.gz $cuts/heard/emobank
    speak "$texts/meld/train_sent_emo.csv" $cuts/heard/meld --max-words 16
    speak "$texts/sst/stsa.fine.train" $cuts/heard/sst --drop-label --max-words 16
    sa2sr label $cuts/*/*.jsonl.gz $cuts/heard/*/*.jsonl.gz --in-place
    touch $cuts/prepared
fi
sa2sr study emobank --jobs 2 --out runs/emobank
