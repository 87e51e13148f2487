// The kernels for CUDA devices that ATen has none for, in CUDA C++. One text for two compilers: GPUKernels.cpp makes a string of it, which
// NVRTC compiles when it is first needed; `make -C Benchmarks/kernels check` compiles it as C++ and runs it without a GPU. So it holds
// no preprocessor directive and uses no header. Every kernel goes over its elements in steps of the whole grid.

GRAFT_GPU_SOURCE(
    /// bf16 is the upper half of a float.
    struct BFloat16 { unsigned short bits; };

    __device__ inline float number(float x) { return x; }
    __device__ inline float number(BFloat16 x) { return __uint_as_float(static_cast<unsigned int>(x.bits) << 16); }

    __device__ inline void put(float* to, float x) { *to = x; }
    /// To the nearest, ties to even; a NaN stays a NaN.
    __device__ inline void put(BFloat16* to, float x) {
      const unsigned int bits = __float_as_uint(x);
      to->bits = static_cast<unsigned short>(x != x ? 0x7fc0u : (bits + 0x7fffu + ((bits >> 16) & 1u)) >> 16);
    }

    __device__ inline long long firstElement() {
      return static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
    }
    __device__ inline long long stepBetweenElements() { return static_cast<long long>(gridDim.x) * blockDim.x; }

    // SwiGLU: gate and up lie side by side in rows of 2 · size.

    template <class T>
    __device__ inline void swiGLU(const T* gateUp, T* output, long long rows, long long size) {
      for (long long i = firstElement(); i < rows * size; i += stepBetweenElements()) {
        const T* const from = gateUp + i / size * 2 * size + i % size;
        const float gate = number(from[0]);
        put(output + i, gate / (1 + expf(-gate)) * number(from[size]));
      }
    }

    /// d gate = dy · up · σ(gate) (1 + gate (1 − σ(gate))), d up = dy · gate · σ(gate)
    template <class T>
    __device__ inline void swiGLUBackward(const T* gateUp, const T* gradient, T* gateUpGradient, long long rows,
                                          long long size) {
      for (long long i = firstElement(); i < rows * size; i += stepBetweenElements()) {
        const long long place = i / size * 2 * size + i % size;
        const float gate = number(gateUp[place]);
        const float dy = number(gradient[i]);
        const float sigma = 1 / (1 + expf(-gate));
        put(gateUpGradient + place, dy * number(gateUp[place + size]) * sigma * (1 + gate * (1 - sigma)));
        put(gateUpGradient + place + size, dy * gate * sigma);
      }
    }

    /// Turns pairs (i, i + turned / 2) of the first `heads` heads of each row in place; `inverse` is the transpose of the same map.
    template <class T>
    __device__ inline void rotate(T* x, const float* cosines, const float* sines, long long rows, long long stride,
                                  long long heads, long long headSize, long long turned, int inverse) {
      const long long half = turned / 2;
      for (long long i = firstElement(); i < rows * heads * half; i += stepBetweenElements()) {
        const long long row = i / (heads * half);
        const long long head = i / half % heads;
        const long long k = i % half;
        T* const pair = x + row * stride + head * headSize + k;
        const float* const cosine = cosines + row * turned + k;
        const float* const sine = sines + row * turned + k;
        const float a = number(pair[0]);
        const float b = number(pair[half]);
        put(pair, inverse ? a * cosine[0] + b * sine[half] : a * cosine[0] - b * sine[0]);
        put(pair + half, inverse ? b * cosine[half] - a * sine[0] : b * cosine[half] + a * sine[half]);
      }
    }

    /// NF4 and FP4: two codes a byte, the first in its upper half; the constants may be quantized too (see QuantizedMatrix.h).
    template <class T>
    __device__ inline void decodeFourBit(const unsigned char* codes, const float* values, const float* constants,
                                         const unsigned char* constantCodes, const float* nestedTable,
                                         const float* nestedConstants, float nestedOffset, long long nestedBlockSize,
                                         long long blockSize, long long count, T* output) {
      for (long long i = firstElement(); i < count; i += stepBetweenElements()) {
        const unsigned char byte = codes[i / 2];
        const long long block = i / blockSize;
        const float constant = constants ? constants[block]
                                         : nestedTable[constantCodes[block]] * nestedConstants[block / nestedBlockSize] +
                                               nestedOffset;
        put(output + i, values[i % 2 ? byte & 15 : byte >> 4] * constant);
      }
    }

    /// Signed bytes with the largest magnitude of each row.
    template <class T>
    __device__ inline void decodeInt8(const signed char* codes, const float* constants, long long rows, long long columns,
                                      T* output) {
      for (long long i = firstElement(); i < rows * columns; i += stepBetweenElements())
        put(output + i, codes[i] * constants[i / columns] * 7.874015718698502e-3f);
    }

    extern "C" {
    __global__ void swiGLUFloat(const float* gateUp, float* output, long long rows, long long size) {
      swiGLU(gateUp, output, rows, size);
    }
    __global__ void swiGLUBFloat16(const BFloat16* gateUp, BFloat16* output, long long rows, long long size) {
      swiGLU(gateUp, output, rows, size);
    }
    __global__ void swiGLUBackwardFloat(const float* gateUp, const float* gradient, float* gateUpGradient, long long rows,
                                        long long size) {
      swiGLUBackward(gateUp, gradient, gateUpGradient, rows, size);
    }
    __global__ void swiGLUBackwardBFloat16(const BFloat16* gateUp, const BFloat16* gradient, BFloat16* gateUpGradient,
                                           long long rows, long long size) {
      swiGLUBackward(gateUp, gradient, gateUpGradient, rows, size);
    }
    __global__ void rotateFloat(float* x, const float* cosines, const float* sines, long long rows, long long stride,
                                long long heads, long long headSize, long long turned, int inverse) {
      rotate(x, cosines, sines, rows, stride, heads, headSize, turned, inverse);
    }
    __global__ void rotateBFloat16(BFloat16* x, const float* cosines, const float* sines, long long rows, long long stride,
                                   long long heads, long long headSize, long long turned, int inverse) {
      rotate(x, cosines, sines, rows, stride, heads, headSize, turned, inverse);
    }
    __global__ void decodeFourBitFloat(const unsigned char* codes, const float* values, const float* constants,
                                       const unsigned char* constantCodes, const float* nestedTable,
                                       const float* nestedConstants, float nestedOffset, long long nestedBlockSize,
                                       long long blockSize, long long count, float* output) {
      decodeFourBit(codes, values, constants, constantCodes, nestedTable, nestedConstants, nestedOffset, nestedBlockSize,
                    blockSize, count, output);
    }
    __global__ void decodeFourBitBFloat16(const unsigned char* codes, const float* values, const float* constants,
                                          const unsigned char* constantCodes, const float* nestedTable,
                                          const float* nestedConstants, float nestedOffset, long long nestedBlockSize,
                                          long long blockSize, long long count, BFloat16* output) {
      decodeFourBit(codes, values, constants, constantCodes, nestedTable, nestedConstants, nestedOffset, nestedBlockSize,
                    blockSize, count, output);
    }
    __global__ void decodeInt8Float(const signed char* codes, const float* constants, long long rows, long long columns,
                                    float* output) {
      decodeInt8(codes, constants, rows, columns, output);
    }
    __global__ void decodeInt8BFloat16(const signed char* codes, const float* constants, long long rows, long long columns,
                                       BFloat16* output) {
      decodeInt8(codes, constants, rows, columns, output);
    }
    })
