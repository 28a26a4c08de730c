#!/bin/sh
# How the model that comes with the package was made: an encoder hears spoken text, goes on with English speech of people,
# and is then fine-tuned on RAVDESS (emotions in the voice, proxy ratings) and spoken EmoBank (valence in words, readers'
# ratings) together. Its card says how it was chosen.
#
#     sh examples/shipped_model.sh CORPORA TEXTS
#
# CORPORA holds the folders LibriSpeech, speechocean762 and RAVDESS, TEXTS what examples/spoken_cuts.sh says. Three hours
# on two cores; interrupted, the same command goes on where it was.
set -eu
text=cuts/spoken-emobank
real=cuts/real
sh "$(dirname "$0")/real_cuts.sh" "$1"
sh "$(dirname "$0")/spoken_cuts.sh" "$2"

sets() {  # --train and --dev of the folders that follow
    for folder in "$@"; do
        printf -- '--train %s/train.jsonl.gz --dev %s/dev.jsonl.gz ' "$folder" "$folder"
    done
}
heard="$text/heard/emobank $text/heard/meld $text/heard/sst"
sa2sr pretrain sa2sr-small $(sets $heard) --out runs/shipped/text encoder.layers=3 frontend.floor_db=50 \
    frontend.normalised=together pretraining.augmentation.every_speed=false pretraining.max_epochs=10 \
    pretraining.optimiser.rate=1.5e-3
sa2sr pretrain sa2sr-english $(sets $heard $real/librispeech $real/speechocean762) \
    --encoder runs/shipped/text --out runs/shipped/pretrained
finetune() {  # OUT, and its sets and changes
    out=$1
    shift
    sa2sr finetune sa2sr-english "$@" --encoder runs/shipped/pretrained --out "$out"
}
finetune runs/shipped/finetuned $(sets $text/emobank $real/ravdess)

# Four actors say little of how far off others will be: four more trainings leave each of the others out once, and the
# intervals come from all of them.
folds=$real/folds/ravdess
[ -e $folds/4.jsonl.gz ] || sa2sr split $real/ravdess/train.jsonl.gz --parts 1=.25,2=.25,3=.25,4=.25 --out $folds
pool="--pool runs/shipped/finetuned"
for fold in 1 2 3 4; do
    others=$(ls $folds/*.jsonl.gz $real/ravdess/dev.jsonl.gz | grep -v "/$fold.jsonl.gz" | sed 's/^/--train /')
    finetune runs/shipped/fold$fold $(sets $text/emobank) $others --dev $folds/$fold.jsonl.gz
    pool="$pool --pool runs/shipped/fold$fold"
done
final=runs/shipped/final
rm -rf $final
sa2sr pack runs/shipped/finetuned $final/model --without category  # it has served its purpose
sa2sr calibrate $final $pool
sa2sr evaluate $final $text/emobank/test.jsonl.gz --map-scale
sa2sr evaluate $final $real/ravdess/test.jsonl.gz
cp "$(dirname "$0")/shipped_model.card.yaml" $final/card.yaml
sa2sr pack $final src/sa2sr/models/default --half --lean --name sa2sr-english

# Each of the five trainings was without four of twenty actors: a table of how they tell these actors' emotions apart.
pairs="$real/ravdess/dev.jsonl.gz runs/shipped/finetuned"
for fold in 1 2 3 4; do
    pairs="$pairs $folds/$fold.jsonl.gz runs/shipped/fold$fold"
done
python "$(dirname "$0")/emotions_apart.py" $pairs > runs/shipped/emotions-apart-crossed.md
