#!/bin/bash
# CamVid with and without depth from video: camvid.sh FOLDER NAME SEED, with CAMVID and DRIVES naming where the data lie.
# NAME is single; drives: depth from the clips in DRIVES; clip: depth from CamVid's val pictures, which are a clip.
set -e
folder=${1:?a folder for the models} name=${2:?a name} seed=${3:?a seed}
size=96x128
case $name in
single) recipe="clips=0" ;;
drives) recipe="video=folder:${DRIVES:?where the drives are}?size=$size" ;;
clip) recipe="video=folder:${CAMVID:?}/images/val?size=$size" ;;
*) echo "no network is called $name" >&2; exit 2 ;;
esac
out="$folder/models/camvid_$name-$seed"
[ -e "$out/vallum.json" ] && exit
vallum harden net:segmenter --data "camvid:${CAMVID:?where CamVid is}?split=train" --size $size \
    --with "depth_multitask:$recipe" --epochs 20 --batch-size 8 --optimizer adamw --lr 0.001 --flip --validation 0 \
    --workers 1 --precision bf16-mixed --seed "$seed" --out "$out" --quiet || [ -e "$out/vallum.json" ]
