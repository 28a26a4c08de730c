#!/bin/sh
# Cuts of spoken text for the other examples: EmoBank, and what pre-training hears, which are the sentences of EmoBank's
# train split, MELD and SST by the training voices and nothing of dev and test; all labelled.
#
#     sh examples/spoken_cuts.sh TEXTS          TEXTS holds emobank.csv (EmoBank), meld/train_sent_emo.csv (MELD) and
#                                               sst/stsa.fine.train (SST)
set -eu
texts=$1
cuts=cuts/spoken-emobank

if [ ! -e $cuts/prepared ]; then
    sa2sr prepare emobank "$texts/emobank.csv" $cuts/emobank --max-words 12 --test-voicings 3 --rate 200
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
