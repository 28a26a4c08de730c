#!/bin/sh
# Cuts of real speech for the other examples: LibriSpeech (train-clean-100, dev-clean) and speechocean762, labelled, in
# parts that share no speaker, and RAVDESS.
#
#     sh examples/real_cuts.sh CORPORA        CORPORA holds the folders LibriSpeech, speechocean762 and RAVDESS
set -eu
corpora=$1
cuts=cuts/real

if [ ! -e $cuts/prepared ]; then
    sa2sr prepare librispeech "$corpora/LibriSpeech" $cuts/whole/librispeech
    sa2sr prepare kaldi "$corpora/speechocean762" $cuts/whole/speechocean762
    sa2sr prepare ravdess "$corpora/RAVDESS" $cuts/ravdess    # actors 1-16, 17-20, 21-24
    # The corpora's own divisions leave too few voices for training.
    sa2sr split $cuts/whole/librispeech/*.jsonl.gz --parts train=.85,dev=.075,test=.075 --out $cuts/librispeech
    sa2sr split $cuts/whole/speechocean762/*.jsonl.gz --parts train=.88,dev=.06,test=.06 --out $cuts/speechocean762
    for corpus in librispeech speechocean762; do
        sa2sr label $cuts/$corpus/*.jsonl.gz --in-place
    done
    touch $cuts/prepared
fi
