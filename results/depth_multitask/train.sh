#!/bin/bash
# One of the networks that measure.py looks at: train.sh FOLDER NAME SEED, after data.py FOLDER/data.
# NAME is one of those below. What is there already is left alone; a run that was stopped goes on.
set -e
folder=${1:?a folder for data and models} name=${2:?a name} seed=${3:?a seed}
clips="video=npz:$folder/data/clips.npz"
net=net:segmenter epochs=4 lr=0.001
case $name in
single) recipe="clips=0" ;;
adversarial) with="adversarial:eps=2/255,steps=3,class_weights=true" ;;
*+shared) # one of the others, then hardened against universal perturbations
    net="$folder/models/${name%+shared}-$seed" epochs=1 lr=0.0005 with="shared_training:eps=8/255,sharedness=batch,batch_norm=frozen" ;;
multi) recipe="$clips,keep_depth=true" ;;
shuffled) recipe="$clips,task=shuffled" ;; # depth cannot be learnt
longer) recipe="clips=0" epochs=10 ;; # as much computing as multi
domains) recipe="$clips,task=none,balance=1" ;; # batch norm sees the clips, nothing is learnt from them
noise) recipe="clips=0,noise=0.1" ;;
picture) recipe="$clips,task=picture" ;; # an autoencoder in depth's place
balance-*) recipe="$clips,keep_depth=true,balance=${name#balance-}" ;;
*) echo "no network is called $name" >&2; exit 2 ;;
esac
out="$folder/models/$name-$seed"
[ -e "$out/vallum.json" ] && exit
# A run whose depth was not learnt ends with an error, and its network is measured all the same.
vallum harden "$net" --data "npz:$folder/data/train.npz" --task segment --with "${with:-depth_multitask:$recipe}" \
    --epochs $epochs --batch-size 8 --optimizer adamw --lr $lr --flip --validation 0 --workers 1 \
    --precision bf16-mixed \
    --seed "$seed" --out "$out" --quiet || [ -e "$out/vallum.json" ]
