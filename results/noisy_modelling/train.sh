#!/bin/bash
# Denoisers pre-trained in other ways, each with a classifier that learns from what it makes: train.sh FOLDER SEED [NAME ...]
set -e
folder=${1:?a folder for the models} seed=${2:?a seed}
shift 2
for name in "${@:-random fixed masks both}"; do
    for one in $name; do
        case $one in
        random) law="sigma=0.15,noise=uniform(0,0.5)" ;; # what is the default
        fixed) law="sigma=0.15,noise=0.15" ;;
        masks) law="noise=0,mask=0.75,loss_on=hidden,sigma=0,hide=0.5" ;; # patches are hidden when it is used, too
        both) law="sigma=0.15,noise=uniform(0,0.5),mask=0.5" ;;
        *) echo "nothing is called $one" >&2; exit 2 ;;
        esac
        [ -e "$folder/$one-$seed/vallum.json" ] || vallum harden builtin:signs_resnet \
            --data "builtin:signs?split=train&n=8000" \
            --with "noisy_modelling:pretraining_epochs=6,pretraining_lr=0.002,$law" --epochs 1 --lr 0.01 \
            --batch-size 64 --validation 0 --robust-images 0 --seed "$seed" --out "$folder/$one-$seed" --quiet
    done
done
