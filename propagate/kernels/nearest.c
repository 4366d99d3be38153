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
 * the result is the same to the last bit. Where the leading coordinates are the leading channels
 * themselves, as of principal components, their products are the beginning of the others.
 *
 * Maps are [rows][channels][columns], so that a row segment is contiguous for each channel. */

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#if defined(__AVX__)
#include <immintrin.h>
#endif

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

/* Products that are yet to be made, or are made up to some channel. */
static inline __attribute__((always_inline)) void nothing(vector sums[QUERIES][2])
{
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++)
        sums[q][0] = sums[q][1] = (vector){0};
}

/* Lane by lane, which is what GCC makes of a loop over a vector, costs as much as a bound. */
static inline int any(mask values)
{
#if defined(__AVX512F__)
    return _mm512_test_epi32_mask((__m512i)values, (__m512i)values) != 0;
#elif defined(__AVX__)
    return !_mm256_testz_si256((__m256i)values, (__m256i)values);
#else
    int found = 0;
#pragma GCC unroll 16
    for (int i = 0; i < LANES; i++)
        found |= values[i];
    return found;
#endif
}

static inline int any_from(const vector values[2], float least)
{
    return any((values[0] >= least) | (values[1] >= least));
}

/* Whether any product can be above its query's `least`: by leading coordinates, whose products are
 * added to sums, and the norms of the rest behind each of the LEVELS numbers of coordinates. */
static inline __attribute__((always_inline)) int
promising(const float *keys, ptrdiff_t stride, const float *queries, const float *rest,
          ptrdiff_t rest_stride, const float *rests, const int *levels, int vectors,
          const float *least, vector sums[QUERIES][2])
{
    for (int level = 0, done = 0; level < LEVELS; done = levels[level++]) {
        accumulate(keys + done * stride, stride, queries + done * QUERIES, levels[level] - done,
                   vectors, sums);
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
        rest += rest_stride;
        rests += QUERIES;
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

/* Queries of rows y0 to y1 as `pack` puts them, [row][tile][channel][query]. */
struct packed {
    const float *data;
    int channels;
};

/* What a call searches. Of sketches, `leading` are the coordinates and `rests` the norms beyond. */
struct search {
    struct maps keys, leading, rests;
    struct packed queries, leads, norms;
    const int *levels;
    int sketched, height, width, keep, y0, y1;
    float *best;
    int32_t *cells;
};

static const float *tile_of(const struct search *s, const struct packed *packed, int y, int tile)
{
    const ptrdiff_t tiles = (s->width + QUERIES - 1) / QUERIES;
    return packed->data + ((y - s->y0) * tiles + tile) * packed->channels * QUERIES;
}

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

/* A tile of queries and a row of keys, of one map. */
struct pair {
    const float *queries, *keys;
    ptrdiff_t stride;
};

static struct pair pair_of(const struct search *s, const struct packed *packed,
                           const struct maps *maps, int y, int tile, int frame, int row)
{
    return (struct pair){tile_of(s, packed, y, tile), row_of(maps, frame + 1, row),
                         stride_of(maps, frame + 1)};
}

/* Products of a tile with `vectors` times LANES keys from column `at` on; 0 if bounds say that none
 * is above `least`. */
static inline __attribute__((always_inline)) int
products(const struct search *s, const struct pair *full, const struct pair *leading,
         const struct pair *rests, int at, int vectors, const float *least, vector out[QUERIES][2])
{
    vector sums[QUERIES][2];
    int done = 0;
    nothing(sums);
    if (s->sketched) {
        if (!promising(leading->keys + at, leading->stride, leading->queries, rests->keys + at,
                       rests->stride, rests->queries, s->levels, vectors, least, sums))
            return 0;
        if (leading->keys == full->keys)
            done = s->levels[LEVELS - 1];
        else
            nothing(sums);
    }
    accumulate(full->keys + at + done * full->stride, full->stride, full->queries + done * QUERIES,
               s->queries.channels - done, vectors, sums);
#pragma GCC unroll 8
    for (int q = 0; q < QUERIES; q++) {
        out[q][0] = sums[q][0];
        out[q][1] = vectors > 1 ? sums[q][1] : sums[q][0];
    }
    return 1;
}

/* One tile of queries against the keys of one row of a frame, at most `reach` columns away. */
static void scan(const struct search *s, int y, int tile, int frame, int row, int reach)
{
    const int x = tile * QUERIES, from = min(x, s->width - QUERIES);
    const int stop = min(from + QUERIES + reach, s->width);
    const struct pair full = pair_of(s, &s->queries, &s->keys, y, tile, frame, row);
    struct pair leading = full, rests = full;
    if (s->sketched) {
        leading = pair_of(s, &s->leads, &s->leading, y, tile, frame, row);
        rests = pair_of(s, &s->norms, &s->rests, y, tile, frame, row);
    }
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
            if (!products(s, &full, &leading, &rests, at, 2, least, found))
                continue;
        } else if (!products(s, &full, &leading, &rests, at, 1, least, found)) {
            continue;
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

/* Rows y0 to y1 of the first of the maps, packed one after the other at `to`. */
static struct packed packed_of(const struct search *s, const struct maps *maps, int channels,
                               float *to)
{
    const struct packed packed = {to, channels};
    for (int y = s->y0; y < s->y1; y++)
        pack(row_of(maps, 0, y), stride_of(maps, 0), s->width, channels,
             (float *)tile_of(s, &packed, y, 0));
    return packed;
}

/* Search all frames for the queries of rows y0 to y1.
 *
 * The query comes as the first of the maps, the context after it.
 *
 * keys, strides  of each map: where it is, and how many floats its rows and channels are apart
 * leading, leading_strides, rests, rests_strides  of each map the same, or NULL without sketches:
 *                leading coordinates, which may be the keys, and LEVELS norms
 * levels         numbers of leading coordinates of which those are the rests, [LEVELS], rising
 * reach          columns to each side of a window at each distance in rows, [radius + 1]
 * limited        whether a window bounds each frame
 * best, cells    [height * width][keep]: similarities, -inf at first, and frame * area + cell, 0
 *
 * Returns 0, or 1 for want of memory. */
int nearest(const float *const *keys, const ptrdiff_t *strides, const float *const *leading,
            const ptrdiff_t *leading_strides, const float *const *rests,
            const ptrdiff_t *rests_strides, const int *levels, const uint8_t *limited, int frames,
            int height, int width, int channels, int radius, const int32_t *reach, int keep, int y0,
            int y1, float *best, int32_t *cells)
{
    const int sketched = leading != NULL, own = sketched && leading[0] != keys[0];
    const int coordinates = own ? levels[LEVELS - 1] : 0, norms = sketched ? LEVELS : 0;
    const size_t queries = (size_t)(y1 - y0) * ((width + QUERIES - 1) / QUERIES) * QUERIES;
    float *packed = malloc(queries * (channels + coordinates + norms) * sizeof(float));
    if (!packed)
        return 1;
    struct search s = {.keys = {keys, strides}, .leading = {leading, leading_strides},
                       .rests = {rests, rests_strides}, .levels = levels, .sketched = sketched,
                       .height = height, .width = width, .keep = keep, .y0 = y0, .y1 = y1,
                       .best = best, .cells = cells};
    s.queries = s.leads = packed_of(&s, &s.keys, channels, packed);
    if (own)
        s.leads = packed_of(&s, &s.leading, coordinates, packed + queries * channels);
    if (sketched)
        s.norms = packed_of(&s, &s.rests, norms, packed + queries * (channels + coordinates));
    /* A row of sketches stays in the first-level cache. What is found early, in the rows and in the
     * frames that are most like the query, lets more of the others be left out. */
    const int chunk = sketched ? 1 : max(CACHED / (channels * width), 1);
    const int near = sketched ? min(NEAR, radius) : -1;
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
