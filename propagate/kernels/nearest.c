/* The most similar cells of a context, inside a window around each cell of a frame.
 *
 * One pass over the keys: dot products of a few neighbouring queries with a row segment of keys are
 * made in registers, compared with each query's worst kept similarity, and forgotten. Nothing of
 * the size of the window is ever stored.
 *
 * With sketches most products are not made at all. A sketch holds a vector's leading coordinates in
 * an orthonormal basis and the norm of the rest, so that by Cauchy and Schwarz a product is at most
 * that of the leading coordinates plus that of the norms. Segments in which no key can reach the
 * similarities that are kept already are left out. The others are computed as without sketches, so
 * the result is the same to the last bit.
 *
 * Maps are [rows][channels][columns], so that a row segment is contiguous for each channel. */

#include <math.h>
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
/* Numbers of leading coordinates after which a sketch's bound is looked at. */
#define LEVELS 2
/* Rows to each side that are searched first in all frames. */
#define NEAR 2

typedef float vector __attribute__((vector_size(LANES * 4)));
typedef float unaligned __attribute__((vector_size(LANES * 4), aligned(4)));
typedef int32_t mask __attribute__((vector_size(LANES * 4)));

static int min(int a, int b) { return a < b ? a : b; }
static int max(int a, int b) { return a > b ? a : b; }

/* Add to sums the products of QUERIES queries, [channel][query], with `vectors` (1 or 2) times
 * LANES keys of a row. Inlined with a constant number, so that all sums stay in registers. */
static inline __attribute__((always_inline)) void
accumulate(const float *keys, ptrdiff_t stride, const float *queries, int channels, int vectors,
           vector sums[QUERIES][2])
{
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
}

static inline __attribute__((always_inline)) void
products(const float *keys, ptrdiff_t stride, const float *queries, int channels, int vectors,
         vector out[QUERIES][2])
{
    vector sums[QUERIES][2];
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++)
        sums[q][0] = sums[q][1] = (vector){0};
    accumulate(keys, stride, queries, channels, vectors, sums);
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++) {
        out[q][0] = sums[q][0];
        out[q][1] = vectors > 1 ? sums[q][1] : sums[q][0];
    }
}

static inline int any(mask values)
{
    int found = 0;
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        found |= values[i];
    return found;
}

static inline int any_from(const vector values[2], float least)
{
    return any((values[0] >= least) | (values[1] >= least));
}

/* Whether any product can be above its query's `least`, by sketches: leading coordinates, then the
 * norms of the rest behind each of the LEVELS numbers of coordinates. */
static inline __attribute__((always_inline)) int
promising(const float *keys, ptrdiff_t stride, const float *queries, const int *levels, int vectors,
          const float *least)
{
    vector sums[QUERIES][2];
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++)
        sums[q][0] = sums[q][1] = (vector){0};
    for (int level = 0, done = 0; level < LEVELS; done = levels[level++]) {
        accumulate(keys + done * stride, stride, queries + done * QUERIES, levels[level] - done,
                   vectors, sums);
        const float *rest = keys + (levels[LEVELS - 1] + level) * stride;
        const float *rests = queries + (levels[LEVELS - 1] + level) * QUERIES;
        const vector left = *(const unaligned *)rest;
        const vector right = vectors > 1 ? *(const unaligned *)(rest + LANES) : left;
        mask above = {0};
#pragma GCC unroll 8
        for (int q = 0; q < QUERIES; q++) {
            above |= sums[q][0] + left * rests[q] > least[q];
            if (vectors > 1)
                above |= sums[q][1] + right * rests[q] > least[q];
        }
        if (!any(above))
            return 0;
    }
    return 1;
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

/* Maps of the query and then of the context, [maps], with the distances of rows and of channels. */
struct maps {
    const float *const *data;
    const ptrdiff_t *strides;
};

static const float *row_of(const struct maps *maps, int map, int y)
{
    return maps->data[map] + y * maps->strides[2 * map];
}

static ptrdiff_t stride_of(const struct maps *maps, int map)
{
    return maps->strides[2 * map + 1];
}

/* What a call searches. `queries` and `sketched` are of rows y0 to y1, as `pack` puts them. */
struct search {
    struct maps keys, sketches;
    const int *levels;
    int height, width, channels, coordinates, keep, y0, y1;
    const float *queries, *sketched;
    float *best;
    int32_t *cells;
};

/* What is kept of one query: similarities in falling order, of equals the first cell first. */
struct kept {
    float *best;
    int32_t *cells;
    int last;
};

static int is_kept(const struct kept *kept, float value, int32_t cell)
{
    const float worst = kept->best[kept->last];
    return value > worst || (value == worst && cell < kept->cells[kept->last]);
}

static void insert(const struct kept *kept, float value, int32_t cell)
{
    float *best = kept->best;
    int32_t *cells = kept->cells;
    int at = kept->last;
    for (; at > 0; at--) {
        if (best[at - 1] > value || (best[at - 1] == value && cells[at - 1] < cell))
            break;
        best[at] = best[at - 1];
        cells[at] = cells[at - 1];
    }
    best[at] = value;
    cells[at] = cell;
}

/* One tile of queries against the keys of one row of a frame, at most `reach` columns away. */
static void scan(const struct search *s, int y, int tile, int frame, int row, int reach)
{
    const int x = tile * QUERIES, from = min(x, s->width - QUERIES);
    const int stop = min(from + QUERIES + reach, s->width);
    const ptrdiff_t packed = (ptrdiff_t)(y - s->y0) * ((s->width + QUERIES - 1) / QUERIES) + tile;
    const float *queries = s->queries + packed * s->channels * QUERIES;
    const float *sketched = s->sketched + packed * s->coordinates * QUERIES;
    const float *keys = row_of(&s->keys, frame + 1, row);
    const float *sketch = s->coordinates ? row_of(&s->sketches, frame + 1, row) : NULL;
    const ptrdiff_t stride = stride_of(&s->keys, frame + 1);
    const ptrdiff_t sketch_stride = sketch ? stride_of(&s->sketches, frame + 1) : 0;
    const int32_t first_cell = ((int32_t)frame * s->height + row) * s->width;
    vector found[QUERIES][2];
    struct kept kept[QUERIES];
    float least[QUERIES];
    for (int q = 0; q < QUERIES; q++) {
        const ptrdiff_t at = ((ptrdiff_t)y * s->width + from + q) * s->keep;
        kept[q] = (struct kept){s->best + at, s->cells + at, s->keep - 1};
        least[q] = q < x - from ? INFINITY : kept[q].best[kept[q].last];
    }
    for (int start = max(from - reach, 0), lanes; start < stop; start += lanes) {
        lanes = stop - start > LANES ? WIDTH : LANES;
        const int at = min(start, s->width - lanes);
        if (lanes == WIDTH) {
            if (sketch && !promising(sketch + at, sketch_stride, sketched, s->levels, 2, least))
                continue;
            products(keys + at, stride, queries, s->channels, 2, found);
        } else {
            if (sketch && !promising(sketch + at, sketch_stride, sketched, s->levels, 1, least))
                continue;
            products(keys + at, stride, queries, s->channels, 1, found);
        }
        for (int q = x - from; q < QUERIES; q++) {
            if (!any_from(found[q], least[q]))
                continue;
            const float *values = (const float *)found[q];
            const int end = min(min(from + q + reach + 1, s->width), at + lanes);
            for (int k = max(from + q - reach, start); k < end; k++)
                if (is_kept(&kept[q], values[k - at], first_cell + k))
                    insert(&kept[q], values[k - at], first_cell + k);
            least[q] = kept[q].best[kept[q].last];
        }
    }
}

/* Rows of a frame that are `near` to `far` rows away from each query's own, `chunk` at a time. */
static void scan_rows(const struct search *s, int frame, int near, int far, int chunk,
                      const int32_t *reach)
{
    const int tiles = (s->width + QUERIES - 1) / QUERIES;
    for (int top = max(s->y0 - far, 0); top < min(s->y1 + far, s->height); top += chunk) {
        const int bottom = min(top + chunk, s->height);
        for (int y = max(s->y0, top - far); y < min(s->y1, bottom + far); y++)
            for (int tile = 0; tile < tiles; tile++)
                for (int k = max(top, y - far); k < min(bottom, y + far + 1); k++) {
                    const int away = abs(k - y), wide = reach ? reach[away] : s->width;
                    if (away >= near && wide >= 0)
                        scan(s, y, tile, frame, k, wide);
                }
    }
}

/* Search all frames for the queries of rows y0 to y1.
 *
 * The query comes as the first of the maps, the context after it.
 *
 * keys, strides  of each map: where it is, and how many floats its rows and channels are apart
 * sketches, sketch_strides  of each map the same, or NULL
 * levels         numbers of leading coordinates in a sketch, [LEVELS], rising
 * reach          columns to each side of a window at each distance in rows, [radius + 1]
 * limited        whether a window bounds each frame
 * best, cells    [height * width][keep]: similarities, -inf at first, and frame * area + cell, 0
 *
 * Returns 0, or 1 for want of memory. */
int nearest(const float *const *keys, const ptrdiff_t *strides, const float *const *sketches,
            const ptrdiff_t *sketch_strides, const int *levels, const uint8_t *limited, int frames,
            int height, int width, int channels, int radius, const int32_t *reach, int keep, int y0,
            int y1, float *best, int32_t *cells)
{
    const int coordinates = sketches ? levels[LEVELS - 1] + LEVELS : 0;
    const size_t tiles = (width + QUERIES - 1) / QUERIES, rows = y1 - y0;
    const size_t per_row = tiles * QUERIES * channels, sketch_row = tiles * QUERIES * coordinates;
    float *packed = malloc(rows * (per_row + sketch_row) * sizeof(float));
    if (!packed)
        return 1;
    float *sketched = packed + rows * per_row;
    const struct search s = {{keys, strides}, {sketches, sketch_strides}, levels, height, width,
                             channels, coordinates, keep, y0, y1, packed, sketched, best, cells};
    for (int y = y0; y < y1; y++) {
        pack(row_of(&s.keys, 0, y), stride_of(&s.keys, 0), width, channels,
             packed + (y - y0) * per_row);
        if (sketches)
            pack(row_of(&s.sketches, 0, y), stride_of(&s.sketches, 0), width, coordinates,
                 sketched + (y - y0) * sketch_row);
    }
    /* A row of sketches stays in the first-level cache. What is found early, in the rows and in the
     * frames that are most like the query, lets more of the others be left out. */
    const int chunk = sketches ? 1 : max(CACHED / (channels * width), 1);
    const int near = sketches ? min(NEAR, radius) : -1;
    for (int f = frames - 1; near >= 0 && f >= 0; f--)
        if (limited[f])
            scan_rows(&s, f, 0, near, chunk, reach);
    for (int f = frames - 1; f >= 0; f--)
        if (limited[f])
            scan_rows(&s, f, near + 1, radius, chunk, reach);
    for (int f = frames - 1; f >= 0; f--)
        if (!limited[f])
            scan_rows(&s, f, 0, height, chunk, NULL);
    free(packed);
    return 0;
}

int narrowest(void) { return WIDTH; }
