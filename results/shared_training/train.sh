#!/bin/bash
# The fine-tunings whose front measure.py looks at: train.sh FOLDER SEED [SHAREDNESS-EPS[-OTHER] ...]; a minute of one core each.
# OTHER: w25 or w75, the weight of the perturbed images in per cent; warm, a radius that grows; k8, eight steps; fast, the preset.
set -e
folder=${1:?a folder for the models}
seed=${2:?a seed}
shift 2
for cell in "${@:-1-2 1-4 1-8 1-12 4-12 16-16 16-24 64-16 64-24 64-32-warm}"; do
    for one in $cell; do
        IFS=- read -r share eps other <<< "$one"
        recipe=shared_training
        case $other in
        "") more= ;;
        w[0-9]*) more=,robust_weight=0.${other#w} ;;
        warm) more=,warmup=0.5 ;;
        k8) more=,steps=8 ;;
        fast) recipe=shared_training_fast more= ;;
        *) echo "nothing is called $other" >&2; exit 2 ;;
        esac
        [ -e "$folder/s$one-$seed/vallum.json" ] || vallum harden builtin:signs_resnet \
            --data "builtin:signs?split=train&n=4000" \
            --with "$recipe:eps=$eps/255,sharedness=$share,batch_norm=frozen$more" \
            --epochs 4 --lr 0.02 --batch-size 128 --seed "$seed" --validation 0 --out "$folder/s$one-$seed" --quiet
    done
done
