"""A plain net and a hardened one on the same images: is the difference more than chance?"""

import vallum

if __name__ == "__main__":
    run = vallum.evaluate(
        {"plain": "builtin:signs_resnet", "hardened": "builtin:signs_resnet_robust"},
        "builtin:signs?split=test",
        ["gaussian:snr=20", "pgd:eps=4/255,steps=10"],
        n=100,
        out="runs/example-compare",
    )
    for pair in run.comparisons:
        counts = f"only first right {pair['only_first']:3}, only second right {pair['only_second']:3}"
        print(f"{pair['threat']:24} {counts}, p = {pair['p']:.2g}")

    fooled = run.query(
        "SELECT name, label, prediction FROM rows WHERE model = 'plain' AND threat LIKE 'pgd%' AND NOT correct LIMIT 3"
    )
    print(fooled)
