#!/bin/sh
# How the model that comes with the package was made: an encoder that has heard spoken text (examples/spoken_emobank.sh)
# goes on with English speech of people, and is then fine-tuned on RAVDESS (emotions in the voice, proxy ratings) and
# spoken EmoBank (valence in words, readers' ratings) together. Everything is chosen on development sets.
#
#     sh examples/shipped_model.sh CORPORA      CORPORA holds the folders LibriSpeech, speechocean762 and RAVDESS
#
# Run examples/spoken_emobank.sh before it. Interrupted, the same command goes on where it was.
set -eu
corpora=$1
text=cuts/spoken-emobank
real=cuts/real

if [ ! -e $real/prepared ]; then
    sa2sr prepare librispeech "$corpora/LibriSpeech" $real/whole/librispeech
    sa2sr prepare kaldi "$corpora/speechocean762" $real/whole/speechocean762
    sa2sr prepare ravdess "$corpora/RAVDESS" $real/ravdess    # actors 1-16, 17-20, 21-24
    sa2sr split $real/whole/librispeech/*.jsonl.gz --parts train=.85,dev=.075,test=.075 --out $real/librispeech
    sa2sr split $real/whole/speechocean762/*.jsonl.gz --parts train=.88,dev=.06,test=.06 --out $real/speechocean762
    for corpus in librispeech speechocean762; do
        sa2sr label $real/$corpus/*.jsonl.gz --in-place
    done
    touch $real/prepared
fi

sets() {  # --train and --dev of the folders that follow
    for folder in "$@"; do
        printf -- '--train %s/train.jsonl.gz --dev %s/dev.jsonl.gz ' "$folder" "$folder"
    done
}
heard="$text/heard/emobank $text/heard/meld $text/heard/sst $text/heard/snippets"
sa2sr pretrain shipped $(sets $heard $real/librispeech $real/speechocean762) \
    --encoder runs/emobank/pretrained/sa2sr-seed0 --out runs/shipped/pretrained
sa2sr finetune shipped $(sets $text/emobank $real/ravdess) --encoder runs/shipped/pretrained --out runs/shipped/finetuned
sa2sr evaluate runs/shipped/finetuned $text/emobank/test.jsonl.gz --map-scale --out runs/shipped/emobank
sa2sr evaluate runs/shipped/finetuned $real/ravdess/test.jsonl.gz --out runs/shipped/ravdess
