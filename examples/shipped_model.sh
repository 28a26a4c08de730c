#!/bin/sh
# How the model that comes with the package was made: an encoder that has heard spoken text (examples/spoken_emobank.sh)
# goes on with English speech of people, and is then fine-tuned on RAVDESS (emotions in the voice, proxy ratings) and
# spoken EmoBank (valence in words, readers' ratings) together. Its card says how it was chosen.
#
#     sh examples/shipped_model.sh CORPORA      CORPORA holds the folders LibriSpeech, speechocean762 and RAVDESS
#
# Run examples/spoken_emobank.sh before it. Interrupted, the same command goes on where it was.
set -eu
text=cuts/spoken-emobank
real=cuts/real
sh "$(dirname "$0")/real_cuts.sh" "$1"

sets() {  # --train and --dev of the folders that follow
    for folder in "$@"; do
        printf -- '--train %s/train.jsonl.gz --dev %s/dev.jsonl.gz ' "$folder" "$folder"
    done
}
heard="$text/heard/emobank $text/heard/meld $text/heard/sst"
sa2sr pretrain sa2sr-english $(sets $heard $real/librispeech $real/speechocean762) \
    --encoder runs/emobank/pretrained/sa2sr-seed0 --out runs/shipped/pretrained
sa2sr finetune sa2sr-english $(sets $text/emobank $real/ravdess) --encoder runs/shipped/pretrained --out runs/shipped/finetuned
sa2sr evaluate runs/shipped/finetuned $text/emobank/test.jsonl.gz --map-scale
sa2sr evaluate runs/shipped/finetuned $real/ravdess/test.jsonl.gz
cp "$(dirname "$0")/shipped_model.card.yaml" runs/shipped/finetuned/card.yaml
sa2sr pack runs/shipped/finetuned src/sa2sr/models/default --half --lean --name sa2sr-english
