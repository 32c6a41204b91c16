#!/bin/bash
# A segmenter for small streets, plain and hardened: streets.sh FOLDER; about four minutes of one core.
folder=${1:?a folder for the models}
data=${2:-"builtin:streets?split=train&n=1200&size=32x96"}
vallum train net:segmenter --data "$data" --task segment --epochs 8 --batch-size 16 --optimizer adamw --lr 0.002 --flip \
    --validation 0 --out "$folder/plain" --quiet
for recipe in shared_training:eps=8/255,sharedness=batch,batch_norm=frozen adversarial:eps=8/255,steps=4; do
    vallum harden "$folder/plain" --data "$data" --task segment --with "$recipe" --epochs 3 --batch-size 16 \
        --optimizer adamw --lr 0.0005 --flip --validation 0 --out "$folder/${recipe%%:*}" --quiet
done
