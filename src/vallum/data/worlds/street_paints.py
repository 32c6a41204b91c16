"""The kinds of surface, each with a painter of its own."""

SKY, GROUND, SLAB, FACADE, PLAIN, LEAVES, CAR_BODY, CAR_CABIN, SIGN, FENCE, TILES, LAMPS = range(12)
