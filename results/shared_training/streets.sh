#!/bin/bash
# Segmenters for small streets, hardened: streets.sh FOLDER SEED [NAME ...]; about a minute of one core each.
# NAME: plain, where the others start; adversarial, which learns from nothing but attacked images; SHAREDNESS-EPS.
set -e
folder=${1:?a folder for the models} seed=${2:?a seed}
shift 2
data=${DATA:-"builtin:streets?split=train&n=1200&size=32x96"} # or the same, made before
harden() {
    [ -e "$folder/$1-$seed/vallum.json" ] || vallum harden "$folder/plain-$seed" --data "$data" --task segment --with "$2" \
        --epochs 3 --batch-size 16 --optimizer adamw --lr 0.0005 --flip --validation 0 --seed "$seed" \
        --out "$folder/$1-$seed" --quiet
}
for name in "${@:-plain adversarial 1-2 1-4 1-6 16-8 16-16}"; do
    for one in $name; do
        case $one in
        plain) [ -e "$folder/plain-$seed/vallum.json" ] || vallum train net:segmenter --data "$data" --task segment \
            --epochs 8 --batch-size 16 --optimizer adamw --lr 0.002 --flip --validation 0 --seed "$seed" \
            --out "$folder/plain-$seed" --quiet ;;
        adversarial) harden adversarial adversarial:eps=8/255,steps=4 ;;
        *) harden "s$one" "shared_training:eps=${one#*-}/255,sharedness=${one%-*},batch_norm=frozen" ;;
        esac
    done
done
