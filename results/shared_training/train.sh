#!/bin/bash
# The fine-tunings whose front measure.py looks at: train.sh FOLDER SEED [SHAREDNESS-EPS ...]; about a minute of one core each.
folder=${1:?a folder for the models}
seed=${2:?a seed}
shift 2
for cell in "${@:-1-2 1-4 1-8 16-8 16-16 64-16 64-32}"; do
    for one in $cell; do
        vallum harden builtin:signs_resnet --data "builtin:signs?split=train&n=4000" \
            --with "shared_training:eps=${one#*-}/255,sharedness=${one%-*},batch_norm=frozen" \
            --epochs 4 --lr 0.02 --batch-size 128 --seed "$seed" --validation 0 --out "$folder/s$one-$seed" --quiet
    done
done
