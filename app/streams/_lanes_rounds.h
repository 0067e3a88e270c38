/* The compression of SHA-256 (FIPS 180-4, section 6.2.2) for all lanes at once.
 *
 * Included once for each instruction set, which defines: COMPRESS, the function's name; TARGET, its
 * attribute; V, a vector of one 32-bit word a lane; LANES; and on vectors ADD, XOR3, CHOOSE, MAJORITY,
 * ROTATE and SHIFT (to the right), SPREAD (one word to all lanes), GET and PUT (unaligned), and
 * READ(words, from): the next 16 words of each lane, in the machine's byte order, transposed.
 */

#define SIGMA(x, a, b, c) XOR3(ROTATE(x, a), ROTATE(x, b), ROTATE(x, c))
#define SMALL(x, a, b, c) XOR3(ROTATE(x, a), ROTATE(x, b), SHIFT(x, c))

#define ROUND(a, b, c, d, e, f, g, h, t)                                                         \
    do {                                                                                         \
        V one = ADD(ADD(h, SIGMA(e, 6, 11, 25)),                                                 \
                    ADD(CHOOSE(e, f, g), ADD(SPREAD(ROUND_WORDS[t]), w[(t) & 15])));             \
        d = ADD(d, one);                                                                         \
        h = ADD(one, ADD(SIGMA(a, 2, 13, 22), MAJORITY(a, b, c)));                               \
    } while (0)

#define EIGHT_ROUNDS(t)                                                                          \
    do {                                                                                         \
        ROUND(a, b, c, d, e, f, g, h, (t));                                                      \
        ROUND(h, a, b, c, d, e, f, g, (t) + 1);                                                  \
        ROUND(g, h, a, b, c, d, e, f, (t) + 2);                                                  \
        ROUND(f, g, h, a, b, c, d, e, (t) + 3);                                                  \
        ROUND(e, f, g, h, a, b, c, d, (t) + 4);                                                  \
        ROUND(d, e, f, g, h, a, b, c, (t) + 5);                                                  \
        ROUND(c, d, e, f, g, h, a, b, (t) + 6);                                                  \
        ROUND(b, c, d, e, f, g, h, a, (t) + 7);                                                  \
    } while (0)

/* `state` has eight rows of one word a lane. Every lane reads `blocks` times 64 bytes. */
TARGET static void COMPRESS(uint32_t *state, const uint8_t *const *from, size_t blocks)
{
    const uint8_t *at[LANES];
    V s[8], w[16];

    memcpy(at, from, sizeof at);
    for (int i = 0; i < 8; i++)
        s[i] = GET(state + i * LANES);
    while (blocks--) {
        V a = s[0], b = s[1], c = s[2], d = s[3], e = s[4], f = s[5], g = s[6], h = s[7];
        READ(w, at);
        for (int lane = 0; lane < LANES; lane++)
            at[lane] += BLOCK;
        EIGHT_ROUNDS(0);
        EIGHT_ROUNDS(8);
        for (int t = 16; t < 64; t += 16) {
            for (int i = 0; i < 16; i++)
                w[i] = ADD(ADD(w[i], SMALL(w[(i + 1) & 15], 7, 18, 3)),
                           ADD(w[(i + 9) & 15], SMALL(w[(i + 14) & 15], 17, 19, 10)));
            EIGHT_ROUNDS(t);
            EIGHT_ROUNDS(t + 8);
        }
        s[0] = ADD(s[0], a);
        s[1] = ADD(s[1], b);
        s[2] = ADD(s[2], c);
        s[3] = ADD(s[3], d);
        s[4] = ADD(s[4], e);
        s[5] = ADD(s[5], f);
        s[6] = ADD(s[6], g);
        s[7] = ADD(s[7], h);
    }
    for (int i = 0; i < 8; i++)
        PUT(state + i * LANES, s[i]);
}

#undef EIGHT_ROUNDS
#undef ROUND
#undef SMALL
#undef SIGMA
#undef COMPRESS
#undef TARGET
#undef V
#undef LANES
#undef ADD
#undef XOR3
#undef CHOOSE
#undef MAJORITY
#undef ROTATE
#undef SHIFT
#undef SPREAD
#undef GET
#undef PUT
#undef READ
