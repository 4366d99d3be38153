/* The most similar cells of a context, inside a window around each cell of a frame.
 *
 * One pass over the keys: dot products of a few neighbouring queries with a row segment of keys are
 * made in registers, compared with each query's worst kept similarity, and forgotten. Nothing of
 * the size of the window is ever stored.
 *
 * Maps are [rows][channels][columns], so that a row segment is contiguous for each channel. */

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__AVX512F__)
#define LANES 16
#define QUERIES 8
#elif defined(__AVX__)
#define LANES 8
#define QUERIES 6
#else
#define LANES 4
#define QUERIES 6
#endif
#define WIDTH (2 * LANES)
/* Floats of keys that stay in the second-level cache while many queries pass over them. */
#define CACHED (1 << 16)

typedef float vector __attribute__((vector_size(LANES * 4)));
typedef float unaligned __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t mask __attribute__((vector_size(LANES * 4)));

static int min(int a, int b) { return a < b ? a : b; }
static int max(int a, int b) { return a > b ? a : b; }

/* Products of QUERIES queries, [channel][query], with `vectors` (1 or 2) times LANES keys of a row.
 * Inlined with a constant number, so that all sums stay in registers. */
static inline __attribute__((always_inline)) void
products(const float *keys, ptrdiff_t stride, const float *queries, int channels, int vectors,
         vector out[QUERIES][2])
{
    vector sums[QUERIES][2];
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++)
        sums[q][0] = sums[q][1] = (vector){0};
    for (int c = 0; c < channels; c++) {
        const vector left = *(const unaligned *)keys;
        const vector right = vectors > 1 ? *(const unaligned *)(keys + LANES) : left;
#pragma GCC unroll 8
        for (int q = 0; q < QUERIES; q++) {
            sums[q][0] += left * queries[q];
            if (vectors > 1)
                sums[q][1] += right * queries[q];
        }
        keys += stride;
        queries += QUERIES;
    }
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++) {
        out[q][0] = sums[q][0];
        out[q][1] = vectors > 1 ? sums[q][1] : sums[q][0];
    }
}

static inline int any_above(const vector values[2], float threshold)
{
    const mask above = (values[0] > threshold) | (values[1] > threshold);
    int found = 0;
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        found |= above[i];
    return found;
}

/* Keep a similarity among the best, which are in falling order; the first of equals stays first. */
static void insert(float *best, int32_t *cells, int keep, float value, int32_t cell)
{
    int at = keep - 1;
    while (at > 0 && best[at - 1] < value) {
        best[at] = best[at - 1];
        cells[at] = cells[at - 1];
        at--;
    }
    best[at] = value;
    cells[at] = cell;
}

/* Queries of one row as [tile][channel][query]; the last tile ends with the row. */
static void pack(const float *row, ptrdiff_t stride, int width, int channels, float *packed)
{
    for (int x = 0; x < width; x += QUERIES) {
        const float *from = row + min(x, width - QUERIES);
        for (int c = 0; c < channels; c++, packed += QUERIES)
            for (int q = 0; q < QUERIES; q++)
                packed[q] = from[c * stride + q];
    }
}

struct grid {
    int height, width, channels, keep;
    float *best;
    int32_t *cells;
};

/* One tile of queries against the keys of one row, at most `reach` columns away. */
static void scan(const struct grid *g, int y, int x, const float *queries, const float *row,
                 ptrdiff_t stride, int32_t first_cell, int reach)
{
    const int from = min(x, g->width - QUERIES);
    const int stop = min(from + QUERIES + reach, g->width);
    vector found[QUERIES][2];
    for (int start = max(from - reach, 0), lanes; start < stop; start += lanes) {
        lanes = stop - start > LANES ? WIDTH : LANES;
        const int at = min(start, g->width - lanes);
        if (lanes == WIDTH)
            products(row + at, stride, queries, g->channels, 2, found);
        else
            products(row + at, stride, queries, g->channels, 1, found);
        for (int q = x - from; q < QUERIES; q++) {
            float *best = g->best + ((ptrdiff_t)y * g->width + from + q) * g->keep;
            int32_t *cells = g->cells + (best - g->best);
            if (!any_above(found[q], best[g->keep - 1]))
                continue;
            const float *values = (const float *)found[q];
            const int end = min(min(from + q + reach + 1, g->width), at + lanes);
            for (int k = max(from + q - reach, start); k < end; k++)
                if (values[k - at] > best[g->keep - 1])
                    insert(best, cells, g->keep, values[k - at], first_cell + k);
        }
    }
}

/* Search all frames for the queries of rows y0 to y1.
 *
 * keys, strides  of each frame: its map, and the distance of its rows and of its channels in floats
 * reach          columns to each side that a window has, for each distance in rows; radius + 1 values
 * limited        whether a window bounds each frame
 * best, cells    [height * width][keep], filled with -inf and 0: similarities, and frame * area + cell
 *
 * Returns 0, or 1 for want of memory. */
int nearest(const float *query, const ptrdiff_t *query_strides, const float **keys,
            const ptrdiff_t *strides, const uint8_t *limited, int frames, int height, int width,
            int channels, int radius, const int32_t *reach, int keep, int y0, int y1, float *best,
            int32_t *cells)
{
    const struct grid g = {height, width, channels, keep, best, cells};
    const int tiles = (width + QUERIES - 1) / QUERIES;
    const int chunk = max(CACHED / (channels * width), 1);
    const size_t per_tile = (size_t)channels * QUERIES, per_row = tiles * per_tile;
    float *packed = malloc((size_t)(y1 - y0) * per_row * sizeof(float));
    if (!packed)
        return 1;
    for (int y = y0; y < y1; y++)
        pack(query + y * query_strides[0], query_strides[1], width, channels,
             packed + (y - y0) * per_row);
    for (int f = 0; f < frames; f++) {
        const int rows = limited[f] ? radius : height;
        for (int top = max(y0 - rows, 0); top < min(y1 + rows, height); top += chunk) {
            const int bottom = min(top + chunk, height);
            for (int y = max(y0, top - rows); y < min(y1, bottom + rows); y++)
                for (int t = 0; t < tiles; t++)
                    for (int k = max(top, y - rows); k < min(bottom, y + rows + 1); k++) {
                        const int wide = limited[f] ? reach[abs(k - y)] : width;
                        if (wide >= 0)
                            scan(&g, y, t * QUERIES, packed + (y - y0) * per_row + t * per_tile,
                                 keys[f] + k * strides[2 * f], strides[2 * f + 1],
                                 (int32_t)f * height * width + k * width, wide);
                    }
        }
    }
    free(packed);
    return 0;
}

int narrowest(void) { return WIDTH; }
