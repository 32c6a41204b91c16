#!/bin/bash
# A plainly trained network of others behind noise and a denoiser, beside two that were adversarially trained, on CIFAR-10:
# cifar.sh FOLDER CIFAR WEIGHTS, a folder to work in, one with train-a.zip and test.zip, one with the networks' weights.
set -e
folder=${1:?a folder to work in} data=${2:?where the pictures are} weights=${3:?where the weights are}
net() { echo "python:benchmarks/nets.py:$1?weights=$weights/cifar10_$2.safetensors"; }
[ -e "$folder/denoised/vallum.json" ] || vallum harden "$(net resnet20 resnet20)" --data "folder:$data/train-a.zip" \
    --with noisy_modelling:sigma=0.1,pretraining_epochs=4,pretraining_lr=0.002 --epochs 1 --lr 0.01 --batch-size 64 \
    --validation 0 --robust-images 0 --out "$folder/denoised" --quiet
vallum evaluate denoised="$folder/denoised?trust=true" cnn_a="$(net cnn_a cnn_a_adv)" resnet4b="$(net resnet4b resnet4b_adv)" \
    --data "folder:$data/test.zip" -n 60 --threat pgd:eps=2/255,steps=20 --threat pgd:eps=4/255,steps=20 --workers 1 \
    --out "$folder/worst" --quiet
