#pragma once

namespace graft {

/// NF4: the means of 16 equally likely parts of the standard normal distribution, scaled to −1 … 1, zero among them
/// (QLoRA, appendix E).
inline constexpr float nf4Values[16] = {
    -1.0f,
    -0.6961928009986877f,
    -0.5250730514526367f,
    -0.39491748809814453f,
    -0.28444138169288635f,
    -0.18477343022823334f,
    -0.09105003625154495f,
    0.0f,
    0.07958029955625534f,
    0.16093020141124725f,
    0.24611230194568634f,
    0.33791524171829224f,
    0.44070982933044434f,
    0.5626170039176941f,
    0.7229568362236023f,
    1.0f,
};

/// FP4: a sign, two bits of exponent and one of mantissa, in units of the largest, 12.
inline constexpr float fp4Values[16] = {
    0.0f,          0.0625f / 12,  8.0f / 12,  1.0f,  4.0f / 12,  6.0f / 12,  2.0f / 12,  3.0f / 12,
    0.0f,          -0.0625f / 12, -8.0f / 12, -1.0f, -4.0f / 12, -6.0f / 12, -2.0f / 12, -3.0f / 12,
};

/// The codes of FP4 in the order of their values; the zeros as bitsandbytes orders them.
inline constexpr unsigned char fp4Order[16] = {11, 10, 13, 12, 15, 14, 9, 0, 8, 1, 6, 7, 4, 5, 2, 3};

}  // namespace graft
