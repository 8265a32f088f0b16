/* Winograd's F(2 x 2, 3 x 3): what stands before and behind its 16 products of matrices; see winograd.py.

   Pixels are channels_last. A tile is 2 x 2 pixels of the output, and the 4 x 4 of the input that they come from; tiles
   are numbered by image, then by line. Planes are (16, count, c): of tiles from `first` on, one plane for each place in
   a 4 x 4. Whoever compiles this says what a REAL is. */

#include <stddef.h>

typedef ptrdiff_t Index;

/* along one side: 4 pixels of the input; 4 values that give 2 pixels of the output; 2 gradients of these */
#define INPUT(d0, d1, d2, d3, v0, v1, v2, v3) (v0 = d0 - d2, v1 = d1 + d2, v2 = d2 - d1, v3 = d1 - d3)
#define OUTPUT(m0, m1, m2, m3, y0, y1) (y0 = m0 + m1 + m2, y1 = m1 - m2 - m3)
#define GRADIENT(g0, g1, m0, m1, m2, m3) (m0 = g0, m1 = g0 + g1, m2 = g0 - g1, m3 = -g1)

#define FOR_TILES _Pragma("omp parallel for num_threads(threads)") for (Index tile = 0; tile < count; tile++)
#define FOR_CHANNELS _Pragma("omp simd") for (Index k = 0; k < c; k++)

/* top left pixel of a tile of the output */
static inline Index corner(Index tile, Index h, Index w, Index *top, Index *left) {
    Index columns = w / 2, rows = h / 2;
    *top = tile / columns % rows * 2;
    *left = tile % columns * 2;
    return tile / columns / rows * h * w;
}

/* x (n, h, w, c) -> planes; beyond the border there are `zeros` (c). Turned by 180 degrees if `turned` is 1. */
void input_planes(int threads, Index first, Index count, Index h, Index w, Index c, int turned, const REAL *x,
                  const REAL *zeros, REAL *planes) {
    FOR_TILES {
        Index top, left, image = corner(first + tile, h, w, &top, &left);
        const REAL *d[4][4];
        for (int i = 0; i < 4; i++)
            for (int j = 0; j < 4; j++) {
                Index row = top - 1 + (turned ? 3 - i : i), column = left - 1 + (turned ? 3 - j : j);
                int inside = row >= 0 && row < h && column >= 0 && column < w;
                d[i][j] = inside ? x + (image + row * w + column) * c : zeros;
            }
        REAL *v = planes + tile * c;
        Index plane = count * c;
        FOR_CHANNELS {
            REAL e[4][4];
            for (int j = 0; j < 4; j++)
                INPUT(d[0][j][k], d[1][j][k], d[2][j][k], d[3][j][k], e[0][j], e[1][j], e[2][j], e[3][j]);
            for (int i = 0; i < 4; i++) {
                REAL *to = v + 4 * i * plane + k;
                INPUT(e[i][0], e[i][1], e[i][2], e[i][3], to[0], to[plane], to[2 * plane], to[3 * plane]);
            }
        }
    }
}

/* planes + bias (c) -> y (n, h, w, c), turned back if `turned` is 1 */
void output_pixels(int threads, Index first, Index count, Index h, Index w, Index c, int turned, const REAL *planes,
                   const REAL *bias, REAL *y) {
    FOR_TILES {
        Index top, left, image = corner(first + tile, h, w, &top, &left);
        REAL *to[2][2];
        for (int i = 0; i < 2; i++)
            for (int j = 0; j < 2; j++)
                to[i][j] = y + (image + (top + (turned ? 1 - i : i)) * w + left + (turned ? 1 - j : j)) * c;
        const REAL *m = planes + tile * c;
        Index plane = count * c;
        FOR_CHANNELS {
            REAL e[2][4];
            for (int j = 0; j < 4; j++) {
                const REAL *from = m + j * plane + k;
                OUTPUT(from[0], from[4 * plane], from[8 * plane], from[12 * plane], e[0][j], e[1][j]);
            }
            for (int i = 0; i < 2; i++) {
                REAL left_one, right_one;
                OUTPUT(e[i][0], e[i][1], e[i][2], e[i][3], left_one, right_one);
                to[i][0][k] = left_one + bias[k];
                to[i][1][k] = right_one + bias[k];
            }
        }
    }
}

/* gradient of y, (n, h, w, c) -> that of the planes that gave it */
void gradient_planes(int threads, Index first, Index count, Index h, Index w, Index c, const REAL *gradient,
                     REAL *planes) {
    FOR_TILES {
        Index top, left, image = corner(first + tile, h, w, &top, &left);
        const REAL *g = gradient + (image + top * w + left) * c;
        REAL *m = planes + tile * c;
        Index plane = count * c, line = w * c;
        FOR_CHANNELS {
            REAL e[4][2];
            for (int j = 0; j < 2; j++)
                GRADIENT(g[j * c + k], g[line + j * c + k], e[0][j], e[1][j], e[2][j], e[3][j]);
            for (int i = 0; i < 4; i++) {
                REAL *to = m + 4 * i * plane + k;
                GRADIENT(e[i][0], e[i][1], to[0], to[plane], to[2 * plane], to[3 * plane]);
            }
        }
    }
}
