#!/bin/bash
# The fine-tunings that measure.py looks at: train.sh FOLDER [SEED ...]; about 50 s of one core each.
folder=${1:?a folder for the models}
shift
for seed in "${@:-0}"; do
    while read -r name recipe; do
        vallum harden builtin:signs_resnet --data "builtin:signs?split=train&n=3000" --with "$recipe" \
            --epochs 4 --lr 0.02 --batch-size 128 --seed "$seed" --validation 0 --out "$folder/$name-$seed" --quiet
    done <<'RECIPES'
s1-4 shared_training:eps=4/255,sharedness=1,batch_norm=frozen
s1-8 shared_training:eps=8/255,sharedness=1,batch_norm=frozen
s64-16 shared_training:eps=16/255,sharedness=64,batch_norm=frozen
s64-24 shared_training:eps=24/255,sharedness=64,batch_norm=frozen
fast-16 shared_training_fast:eps=16/255,batch_norm=frozen
RECIPES
done
