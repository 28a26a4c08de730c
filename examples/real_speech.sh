#!/bin/sh
# Real speech, end to end: pre-train ASR and SA2SR on LibriSpeech (train-clean-100 and dev-clean) and speechocean762,
# fine-tune them on RAVDESS, test on speakers that no training heard, and write the report of docs/results/real.
#
#     sh examples/real_speech.sh CORPORA OUT        CORPORA holds LibriSpeech, speechocean762 and RAVDESS
#
# About ten hours of speech: two pre-trainings of an hour each on a core of their own, and half an hour for the rest.
# Interrupted, the same command goes on where it was.
set -eu
corpora=$1 out=$2
cuts=$out/cuts
export OMP_NUM_THREADS=1   # each training has one core

if [ ! -e "$cuts/done" ]; then
    sa2sr prepare librispeech "$corpora/LibriSpeech" "$cuts/librispeech"
    sa2sr prepare kaldi "$corpora/speechocean762" "$cuts/speechocean762"
    sa2sr prepare ravdess "$corpora/RAVDESS" "$cuts/ravdess"
    # Parts that share no speaker: neither corpus is divided so that a model hears enough voices.
    sa2sr split "$cuts"/librispeech/*.jsonl.gz --parts train=.85,dev=.075,test=.075 --out "$cuts/ls"
    sa2sr split "$cuts"/speechocean762/*.jsonl.gz --parts train=.88,dev=.06,test=.06 --out "$cuts/so"
    sa2sr label "$cuts"/ls/*.jsonl.gz "$cuts"/so/*.jsonl.gz --in-place
    touch "$cuts/done"
fi

pretrain() {
    sa2sr pretrain "$1-small" --train "$cuts/ls/train.jsonl.gz" --train "$cuts/so/train.jsonl.gz" \
        --dev "$cuts/ls/dev.jsonl.gz" --dev "$cuts/so/dev.jsonl.gz" --out "$out/$1" \
        pretraining.max_epochs=5 pretraining.features.store="$out/features" \
        > "$out/$1.log" 2>&1
    for part in ls so; do
        sa2sr evaluate "$out/$1" "$cuts/$part/test.jsonl.gz" --out "$out/evaluation/$1-$part"
    done
}

finetune() {   # NAME RECIPE [ENCODER] [CHANGES]
    name=$1 recipe=$2
    shift 2
    sa2sr finetune "$recipe" "$@" --train "$cuts/ravdess/train.jsonl.gz" --dev "$cuts/ravdess/dev.jsonl.gz" \
        --out "$out/$name" name="$name" finetuning.features.store="$out/features" > "$out/$name.log" 2>&1
    sa2sr evaluate "$out/$name" "$cuts/ravdess/test.jsonl.gz" --out "$out/evaluation/$name"
}

pretrain asr & asr=$!
pretrain sa2sr
wait "$asr"

finetune none scratch-small &  none=$!
finetune asr-ravdess asr-small --encoder "$out/asr"
finetune asr-frozen asr-small --encoder "$out/asr" finetuning.freeze_encoder=true
wait "$none"
finetune sa2sr-ravdess sa2sr-small --encoder "$out/sa2sr"
finetune sa2sr-frozen sa2sr-small --encoder "$out/sa2sr" finetuning.freeze_encoder=true

sa2sr report "$out" --baseline none --title "Real speech" --out "$out/report"
