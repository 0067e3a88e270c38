/* SHA-256 of many buffers at once, each in a lane of its own of the processor's vectors.
 *
 * A lane that has come to the end of its buffer takes up the next one, longest first, so that buffers
 * of different lengths keep the lanes busy. Lanes without a buffer repeat what another one does.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { BLOCK = 64, DIGEST = 32, MOST_LANES = 16 };

static const uint32_t START[8] = {
    0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
};

#if defined(__x86_64__) && defined(__GNUC__)
#define HAVE_LANES 1
#include <immintrin.h>

static const uint32_t ROUND_WORDS[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
    0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
    0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
    0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
    0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
    0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
    0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

#define AVX512 __attribute__((target("avx512f,avx512bw")))

/* Sixteen rows of sixteen words become columns: words within 128 bits first, then these among themselves. */
AVX512 static inline void read16(__m512i *w, const uint8_t *const *at)
{
    const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
    __m512i r[16], q[16];

    for (int i = 0; i < 16; i++)
        r[i] = _mm512_loadu_si512(at[i]);
    for (int i = 0; i < 16; i += 4) {
        __m512i low01 = _mm512_unpacklo_epi32(r[i], r[i + 1]), high01 = _mm512_unpackhi_epi32(r[i], r[i + 1]);
        __m512i low23 = _mm512_unpacklo_epi32(r[i + 2], r[i + 3]), high23 = _mm512_unpackhi_epi32(r[i + 2], r[i + 3]);
        q[i] = _mm512_unpacklo_epi64(low01, low23);
        q[i + 1] = _mm512_unpackhi_epi64(low01, low23);
        q[i + 2] = _mm512_unpacklo_epi64(high01, high23);
        q[i + 3] = _mm512_unpackhi_epi64(high01, high23);
    }
    for (int i = 0; i < 4; i++) {
        __m512i even_a = _mm512_shuffle_i32x4(q[i], q[i + 4], 0x88), odd_a = _mm512_shuffle_i32x4(q[i], q[i + 4], 0xdd);
        __m512i even_b = _mm512_shuffle_i32x4(q[i + 8], q[i + 12], 0x88);
        __m512i odd_b = _mm512_shuffle_i32x4(q[i + 8], q[i + 12], 0xdd);
        w[i] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(even_a, even_b, 0x88), swap);
        w[i + 8] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(even_a, even_b, 0xdd), swap);
        w[i + 4] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(odd_a, odd_b, 0x88), swap);
        w[i + 12] = _mm512_shuffle_epi8(_mm512_shuffle_i32x4(odd_a, odd_b, 0xdd), swap);
    }
}

#define COMPRESS compress16
#define TARGET AVX512
#define V __m512i
#define LANES 16
#define ADD _mm512_add_epi32
#define XOR3(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0x96)
#define CHOOSE(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xca)
#define MAJORITY(x, y, z) _mm512_ternarylogic_epi32(x, y, z, 0xe8)
#define ROTATE _mm512_ror_epi32
#define SHIFT _mm512_srli_epi32
#define SPREAD(word) _mm512_set1_epi32((int)(word))
#define GET(from) _mm512_loadu_si512(from)
#define PUT(to, x) _mm512_storeu_si512(to, x)
#define READ read16
#include "_lanes_rounds.h"

#define AVX2 __attribute__((target("avx2")))

/* Eight rows of eight words, at this place of each lane, become columns. */
AVX2 static inline void read_half8(__m256i *w, const uint8_t *const *at, int place)
{
    const __m256i swap = _mm256_broadcastsi128_si256(_mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203));
    __m256i r[8], q[8];

    for (int i = 0; i < 8; i++)
        r[i] = _mm256_shuffle_epi8(_mm256_loadu_si256((const __m256i *)(at[i] + place)), swap);
    for (int i = 0; i < 8; i += 4) {
        __m256i low01 = _mm256_unpacklo_epi32(r[i], r[i + 1]), high01 = _mm256_unpackhi_epi32(r[i], r[i + 1]);
        __m256i low23 = _mm256_unpacklo_epi32(r[i + 2], r[i + 3]), high23 = _mm256_unpackhi_epi32(r[i + 2], r[i + 3]);
        q[i] = _mm256_unpacklo_epi64(low01, low23);
        q[i + 1] = _mm256_unpackhi_epi64(low01, low23);
        q[i + 2] = _mm256_unpacklo_epi64(high01, high23);
        q[i + 3] = _mm256_unpackhi_epi64(high01, high23);
    }
    for (int i = 0; i < 4; i++) {
        w[i] = _mm256_permute2x128_si256(q[i], q[i + 4], 0x20);
        w[i + 4] = _mm256_permute2x128_si256(q[i], q[i + 4], 0x31);
    }
}

AVX2 static inline void read8(__m256i *w, const uint8_t *const *at)
{
    read_half8(w, at, 0);
    read_half8(w + 8, at, BLOCK / 2);
}

#define COMPRESS compress8
#define TARGET AVX2
#define V __m256i
#define LANES 8
#define ADD _mm256_add_epi32
#define XOR3(x, y, z) _mm256_xor_si256(_mm256_xor_si256(x, y), z)
#define CHOOSE(x, y, z) _mm256_xor_si256(z, _mm256_and_si256(x, _mm256_xor_si256(y, z)))
#define MAJORITY(x, y, z) _mm256_or_si256(_mm256_and_si256(x, y), _mm256_and_si256(z, _mm256_or_si256(x, y)))
#define ROTATE(x, n) _mm256_or_si256(_mm256_srli_epi32(x, n), _mm256_slli_epi32(x, 32 - (n)))
#define SHIFT _mm256_srli_epi32
#define SPREAD(word) _mm256_set1_epi32((int)(word))
#define GET(from) _mm256_loadu_si256((const __m256i *)(from))
#define PUT(to, x) _mm256_storeu_si256((__m256i *)(to), x)
#define READ read8
#include "_lanes_rounds.h"
#endif

typedef struct {
    const char *name;
    int lanes;
    void (*compress)(uint32_t *state, const uint8_t *const *from, size_t blocks);
} Kind;

/* What this processor, and the system on it, can do; returns how many kinds. */
static int find_kinds(Kind *kinds)
{
    int found = 0;
#ifdef HAVE_LANES
    __builtin_cpu_init();
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw"))
        kinds[found++] = (Kind){"avx512", 16, compress16};
    if (__builtin_cpu_supports("avx2"))
        kinds[found++] = (Kind){"avx2", 8, compress8};
#else
    (void)kinds;
#endif
    return found;
}

typedef struct {
    const uint8_t *data;
    size_t size;
    uint8_t *digest;
} Job;

/* A lane reads the whole blocks of its buffer where they lie, then the rest of it, padded, from `tail`. */
typedef struct {
    const Job *job;
    const uint8_t *at;
    size_t blocks;
    int in_tail;
    uint8_t tail[2 * BLOCK];
} Lane;

static void begin_tail(Lane *lane)
{
    size_t rest = lane->job->size % BLOCK;
    size_t blocks = rest < BLOCK - 8 ? 1 : 2;
    uint64_t bits = (uint64_t)lane->job->size * 8;

    memset(lane->tail, 0, sizeof lane->tail);
    if (rest)
        memcpy(lane->tail, lane->job->data + (lane->job->size - rest), rest);
    lane->tail[rest] = 0x80;
    for (int i = 0; i < 8; i++)
        lane->tail[blocks * BLOCK - 1 - i] = (uint8_t)(bits >> 8 * i);
    lane->at = lane->tail;
    lane->blocks = blocks;
    lane->in_tail = 1;
}

static void begin_job(Lane *lane, const Job *job, uint32_t *state, int lanes)
{
    for (int i = 0; i < 8; i++)
        state[i * lanes] = START[i];
    lane->job = job;
    lane->at = job->data;
    lane->blocks = job->size / BLOCK;
    lane->in_tail = 0;
    if (!lane->blocks)
        begin_tail(lane);
}

static void end_job(const Lane *lane, const uint32_t *state, int lanes)
{
    for (int i = 0; i < 8; i++)
        for (int byte = 0; byte < 4; byte++)
            lane->job->digest[4 * i + byte] = (uint8_t)(state[i * lanes] >> (24 - 8 * byte));
}

static void hash_all(const Kind *kind, const Job *jobs, Py_ssize_t count)
{
    uint32_t state[8 * MOST_LANES] = {0};
    Lane lanes[MOST_LANES];
    const uint8_t *from[MOST_LANES];
    Py_ssize_t next = 0;

    for (int i = 0; i < kind->lanes; i++) {
        lanes[i].job = NULL;
        if (next < count)
            begin_job(&lanes[i], &jobs[next++], state + i, kind->lanes);
    }
    for (;;) {
        const Lane *some = NULL;
        size_t blocks = SIZE_MAX;
        for (int i = 0; i < kind->lanes; i++)
            if (lanes[i].job) {
                some = &lanes[i];
                blocks = lanes[i].blocks < blocks ? lanes[i].blocks : blocks;
            }
        if (!some)
            return;
        for (int i = 0; i < kind->lanes; i++)
            from[i] = lanes[i].job ? lanes[i].at : some->at;
        kind->compress(state, from, blocks);
        for (int i = 0; i < kind->lanes; i++) {
            Lane *lane = &lanes[i];
            if (!lane->job)
                continue;
            lane->at += blocks * BLOCK;
            lane->blocks -= blocks;
            if (lane->blocks)
                continue;
            if (!lane->in_tail) {
                begin_tail(lane);
                continue;
            }
            end_job(lane, state + i, kind->lanes);
            lane->job = NULL;
            if (next < count)
                begin_job(lane, &jobs[next++], state + i, kind->lanes);
        }
    }
}

static int longer_first(const void *left, const void *right)
{
    size_t a = ((const Job *)left)->size, b = ((const Job *)right)->size;
    return (a < b) - (a > b);
}

static PyObject *kinds(PyObject *self, PyObject *unused)
{
    Kind found[2];
    int count = find_kinds(found);
    PyObject *answer = PyDict_New();

    (void)self, (void)unused;
    for (int i = 0; answer && i < count; i++) {
        PyObject *lanes = PyLong_FromLong(found[i].lanes);
        if (!lanes || PyDict_SetItemString(answer, found[i].name, lanes))
            Py_CLEAR(answer);
        Py_XDECREF(lanes);
    }
    return answer;
}

/* Takes views of the buffers and makes the bytes of their digests; returns how many views were taken. */
static Py_ssize_t prepare(PyObject *buffers, Py_buffer *views, Job *jobs, PyObject *answer)
{
    Py_ssize_t count = PyList_GET_SIZE(answer), at;

    for (at = 0; at < count; at++) {
        PyObject *digest = PyBytes_FromStringAndSize(NULL, DIGEST);
        if (!digest)
            return at;
        PyList_SET_ITEM(answer, at, digest);
        if (PyObject_GetBuffer(PyTuple_GET_ITEM(buffers, at), &views[at], PyBUF_SIMPLE))
            return at;
        jobs[at] = (Job){views[at].buf, (size_t)views[at].len, (uint8_t *)PyBytes_AS_STRING(digest)};
    }
    return at;
}

static PyObject *digests(PyObject *self, PyObject *args)
{
    const char *name;
    PyObject *given, *buffers, *answer = NULL;
    Kind found[2];
    const Kind *kind = NULL;
    int known = find_kinds(found);

    (void)self;
    if (!PyArg_ParseTuple(args, "sO:digests", &name, &given))
        return NULL;
    for (int i = 0; i < known; i++)
        if (!strcmp(found[i].name, name))
            kind = &found[i];
    if (!kind)
        return PyErr_Format(PyExc_ValueError, "this processor has no %s; see kinds()", name);
    buffers = PySequence_Tuple(given);
    if (!buffers)
        return NULL;

    Py_ssize_t count = PyTuple_GET_SIZE(buffers), taken = 0;
    Py_buffer *views = PyMem_New(Py_buffer, count);
    Job *jobs = PyMem_New(Job, count);
    if (views && jobs)
        answer = PyList_New(count);
    else
        PyErr_NoMemory();
    if (answer) {
        taken = prepare(buffers, views, jobs, answer);
        if (taken < count)
            Py_CLEAR(answer);
    }
    if (answer) {
        Py_BEGIN_ALLOW_THREADS
        qsort(jobs, (size_t)count, sizeof *jobs, longer_first);
        hash_all(kind, jobs, count);
        Py_END_ALLOW_THREADS
    }
    for (Py_ssize_t at = 0; at < taken; at++)
        PyBuffer_Release(&views[at]);
    PyMem_Free(jobs);
    PyMem_Free(views);
    Py_DECREF(buffers);
    return answer;
}

static PyMethodDef methods[] = {
    {"kinds", kinds, METH_NOARGS, "kinds() -> dict: the instruction sets that can be used, fastest first: lanes of each."},
    {"digests", digests, METH_VARARGS,
     "digests(kind, buffers) -> list: the SHA-256 of each buffer, in their order. The GIL is released meanwhile."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module = {
    PyModuleDef_HEAD_INIT, "_lanes", "SHA-256 of many buffers at once.", 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__lanes(void)
{
    return PyModuleDef_Init(&module);
}
