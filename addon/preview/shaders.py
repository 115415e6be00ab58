"""The preview's shaders, made once per run of Blender.

Everything goes through ``GPUShaderCreateInfo`` and plain GLSL 3.3 that OpenGL, Vulkan and Metal all take.
Pushed constants stay under 128 bytes; what is larger lives in uniform blocks and textures.
"""

from __future__ import annotations

from functools import cache

import gpu

from .lights import MAX_LIGHTS, SHADOWS
from .render_data import STATE_HEADER, STATE_WIDTH, TEXTURE_WIDTH

SCENE = f"""
struct Scene {{
  mat4 view_projection;
  vec4 eye;
  vec4 sky;
  vec4 ground;
  vec4 options;
  mat4 shadow_matrix[{SHADOWS}];
  vec4 shadow[{SHADOWS}];
  vec4 light_place[{MAX_LIGHTS}];
  vec4 light_aim[{MAX_LIGHTS}];
  vec4 light_colour[{MAX_LIGHTS}];
}};
"""
"""``eye``: camera's position (w 1) or direction towards it (w 0). ``options``: lights, tone curve, exposure, 0.
``shadow``, per light that casts one: strength, size of a texel in units, least depth that counts, depth over which
the shadow comes in."""

SURFACE = """
struct Surface {
  vec4 base;
  vec4 gloss;
  vec4 scatter;
  vec4 use;
  vec4 glow;
  vec4 relief;
  vec4 spare;
};
"""
"""See `looks.Look.pack`."""

FUSE = f"""
#define FUSION(i) texelFetch(fusion, ivec2((i) & {TEXTURE_WIDTH - 1}, (i) >> {TEXTURE_WIDTH.bit_length() - 1}), 0)
#define SLOPE(i) texelFetch(slopes, ivec2((i) & {TEXTURE_WIDTH - 1}, (i) >> {TEXTURE_WIDTH.bit_length() - 1}), 0)
#define STATE(i) texelFetch(state, ivec2((i) & {STATE_WIDTH - 1}, (i) >> {STATE_WIDTH.bit_length() - 1}), 0)

/* Duff et al., "Building an Orthonormal Basis, Revisited", JCGT 6(1), 2017. */
void plane(vec3 n, out vec3 first, out vec3 second)
{{
  float s = (n.z >= 0.0) ? 1.0 : -1.0;
  float a = -1.0 / (s + n.z);
  float b = n.x * n.y * a;
  first = vec3(1.0 + s * n.x * n.x * a, s * b, -s * n.x);
  second = vec3(b, s + n.y * n.y * a, -n.y);
}}

/* Same as render_data.fuse. */
void fuse(inout vec3 p, inout vec3 first, inout vec3 second)
{{
  for (int i = row.x; i < row.x + row.y; i++) {{
    vec4 delta = FUSION(i);
    float weight = STATE({STATE_HEADER} + int(delta.w)).x;
    if (weight != 0.0) {{
      p += weight * delta.xyz;
#ifdef WITH_NORMALS
      first += weight * SLOPE(2 * i).xyz;
      second += weight * SLOPE(2 * i + 1).xyz;
#endif
    }}
  }}
  if (row.w > 0) {{
    int bones = {STATE_HEADER} + int(STATE(3).x);
    vec4 x = vec4(0.0), y = vec4(0.0), z = vec4(0.0);
    for (int i = row.z; i < row.z + row.w; i++) {{
      vec4 pair = FUSION(i);
      int at = bones + 3 * int(pair.x);
      x += pair.y * STATE(at);
      y += pair.y * STATE(at + 1);
      z += pair.y * STATE(at + 2);
      if (pair.w > 0.0) {{
        at = bones + 3 * int(pair.z);
        x += pair.w * STATE(at);
        y += pair.w * STATE(at + 1);
        z += pair.w * STATE(at + 2);
      }}
    }}
    vec4 q = vec4(p, 1.0);
    p = vec3(dot(x, q), dot(y, q), dot(z, q));
    first = vec3(dot(x.xyz, first), dot(y.xyz, first), dot(z.xyz, first));
    second = vec3(dot(x.xyz, second), dot(y.xyz, second), dot(z.xyz, second));
  }}
}}

vec3 to_world(vec3 p)
{{
  vec4 q = vec4(p, 1.0);
  return vec3(dot(STATE(0), q), dot(STATE(1), q), dot(STATE(2), q));
}}

vec3 turn_to_world(vec3 v)
{{
  return vec3(dot(STATE(0).xyz, v), dot(STATE(1).xyz, v), dot(STATE(2).xyz, v));
}}
"""

HEAD_VERTEX = (
    FUSE
    + """
void main()
{
  vec3 p = position, first, second;
  plane(normal, first, second);
  fuse(p, first, second);
  first = turn_to_world(first);
  second = turn_to_world(second);
  v_place = to_world(p);
  v_rest = position;
  vec3 n = cross(first, second);
  float stretch = length(n);
  /* Of one length everywhere, or what stretches more would bend its neighbours' shading to itself. */
  v_normal = ((stretch > 1e-12) ? n / stretch : turn_to_world(normal)) * STATE(3).z;
  vec3 t = first * tangent.x + second * tangent.y;
  v_tangent = vec4(t / max(length(t), 1e-12), tangent.z * STATE(3).z);
  v_uv = uv;
  v_colour = colour.rgb;
  v_visible = occlusion;
  v_flip = STATE(3).z;
  gl_Position = scene.view_projection * vec4(v_place, 1.0);
}
"""
)

DEPTH_VERTEX = (
    FUSE
    + """
void main()
{
  vec3 p = position, first = vec3(0.0), second = vec3(0.0);
  fuse(p, first, second);
  gl_Position = light * vec4(to_world(p), 1.0);
  v_depth = gl_Position.z;
}
"""
)

DEPTH_FRAGMENT = "void main() { colour_out = vec4(v_depth); }"

POSITION_VERTEX = (
    FUSE
    + """
void main()
{
  vec3 p = position, first, second;
  plane(normal, first, second);
  fuse(p, first, second);
  vec3 n = normalize(cross(first, second));
  v_value = (paint.z > 0.5) ? n : p;
  int i = gl_VertexID;
  vec2 at = (vec2(float(i % 256), float(i / 256)) + 0.5) / paint.xy;
  gl_Position = vec4(2.0 * at - 1.0, 0.0, 1.0);
  gl_PointSize = 1.0;
}
"""
)

TONE = """
/* A close fit of Blender's AgX (Benjamin Wrensch, "Minimal AgX Implementation", MIT licence). */
vec3 agx(vec3 c)
{
  const mat3 inset = mat3(0.842479062253094, 0.0423282422610123, 0.0423756549057051,
                          0.0784335999999992, 0.878468636469772, 0.0784336,
                          0.0792237451477643, 0.0791661274605434, 0.879142973793104);
  const mat3 outset = mat3(1.19687900512017, -0.0528968517574562, -0.0529716355144438,
                           -0.0980208811401368, 1.15190312990417, -0.0980434501171241,
                           -0.0990297440797205, -0.0989611768448433, 1.15107367264116);
  c = clamp(log2(max(inset * c, vec3(1e-10))), -12.47393, 4.026069);
  vec3 x = (c + 12.47393) / (4.026069 + 12.47393);
  vec3 x2 = x * x, x4 = x2 * x2;
  x = 15.5 * x4 * x2 - 40.14 * x4 * x + 31.96 * x4 - 6.868 * x2 * x + 0.4298 * x2 + 0.1191 * x - 0.00232;
  return clamp(outset * x, 0.0, 1.0);
}

vec3 srgb(vec3 c)
{
  c = clamp(c, 0.0, 1.0);
  return mix(12.92 * c, 1.055 * pow(c, vec3(1.0 / 2.4)) - 0.055, step(vec3(0.0031308), c));
}

vec3 linear(vec3 c)
{
  return mix(c / 12.92, pow((max(c, 0.0) + 0.055) / 1.055, vec3(2.4)), step(vec3(0.04045), c));
}

/* The viewport's frame buffer encodes what it is given: hand it over decoded. */
vec4 to_frame(vec3 c, float alpha)
{
  return vec4(srgbTarget ? linear(c) : c, alpha);
}

/* The same of colours that carry their alpha: what is decoded must not. */
vec4 layer_to_frame(vec4 c)
{
  float alpha = max(c.a, 1e-4);
  return vec4(to_frame(c.rgb / alpha, 1.0).rgb * alpha, c.a);
}

/* `curve`: 0 none, 1 sRGB, 2 and more AgX, whose contrast is the part above 2. */
vec3 display(vec3 c, float curve)
{
  if (curve > 1.5) {
    return pow(agx(c), vec3(curve - 1.0));
  }
  return (curve > 0.5) ? srgb(c) : c;
}
"""

HASH = """
/* Whole numbers, so that every driver gives the same: Jarzynski & Olano, "Hash Functions for GPU Rendering",
   JCGT 9(3), 2020 (pcg). */
uint scramble(uint n)
{
  n = n * 747796405u + 2891336453u;
  n = ((n >> ((n >> 28u) + 4u)) ^ n) * 277803737u;
  return (n >> 22u) ^ n;
}

float unit(uint n)
{
  return float(n >> 8u) / 16777216.0;
}
"""

LIGHTING = (
    f"#define SHADOWS {SHADOWS}\n"
    + HASH
    + """
const float PI = 3.14159265;
const float BULGE = 0.55;
const float CATCH = 5.0;

float hash(vec3 p)
{
  ivec3 i = ivec3(p);
  return unit(scramble(uint(i.x) ^ scramble(uint(i.y) ^ scramble(uint(i.z)))));
}

/* Smooth noise and its slope. */
vec4 noise(vec3 x)
{
  vec3 i = floor(x), f = fract(x);
  vec3 u = f * f * (3.0 - 2.0 * f), du = 6.0 * f * (1.0 - f);
  float a = hash(i), b = hash(i + vec3(1, 0, 0)), c = hash(i + vec3(0, 1, 0)), d = hash(i + vec3(1, 1, 0));
  float e = hash(i + vec3(0, 0, 1)), g = hash(i + vec3(1, 0, 1)), h = hash(i + vec3(0, 1, 1)), k = hash(i + vec3(1));
  float k1 = b - a, k2 = c - a, k3 = e - a;
  float k4 = a - b - c + d, k5 = a - c - e + h, k6 = a - b - e + g, k7 = -a + b + c - d + e - g - h + k;
  return vec4(du * vec3(k1 + k4 * u.y + k6 * u.z + k7 * u.y * u.z, k2 + k5 * u.z + k4 * u.x + k7 * u.z * u.x,
                        k3 + k6 * u.x + k5 * u.y + k7 * u.x * u.y),
              a + k1 * u.x + k2 * u.y + k3 * u.z + k4 * u.x * u.y + k5 * u.y * u.z + k6 * u.z * u.x +
                  k7 * u.x * u.y * u.z);
}

/* Part of a light that reaches the surface, from 16 depths round its place in the light's view. */
float lit(int i, vec3 place, vec3 n, float nl)
{
  vec4 shadow = scene.shadow[i];
  if (shadow.x <= 0.0) {
    return 1.0;
  }
  /* Lifted off the surface, the more the flatter the light falls: coarse triangles would shade themselves. */
  float lift = mix(8.0, 2.0, clamp(nl * 1.5, 0.0, 1.0));
  vec3 at = (scene.shadow_matrix[i] * vec4(place + n * shadow.y * lift, 1.0)).xyz;
  float side = float(textureSize(shadow_map, 0).y);
  vec2 texel = (at.xy * 0.5 + 0.5) * side - 0.5;
  if (any(lessThan(texel, vec2(5.0))) || any(greaterThan(texel, vec2(side - 7.0)))) {
    return 1.0;
  }
  /* Every other depth: wide enough that a nostril's shadow is no blot, as light inside skin would soften it. */
  ivec2 base = 2 * ivec2(floor(texel * 0.5)) + ivec2(i * int(side), 0);
  vec2 f = fract(texel * 0.5);
  float sum = 0.0;
  for (int y = -1; y <= 2; y++) {
    float wy = (y == -1) ? 1.0 - f.y : ((y == 2) ? f.y : 1.0);
    for (int x = -1; x <= 2; x++) {
      float wx = (x == -1) ? 1.0 - f.x : ((x == 2) ? f.x : 1.0);
      float depth = texelFetch(shadow_map, base + 2 * ivec2(x, y), 0).x;
      sum += wx * wy * clamp(1.0 - (at.z - depth - shadow.z) / shadow.w, 0.0, 1.0);
    }
  }
  return mix(1.0, sum / 9.0, shadow.x);
}

float ggx(float nh, float nl, float nv, float rough)
{
  float a2 = rough * rough;
  float d = nh * nh * (a2 - 1.0) + 1.0;
  float v = 0.5 / (nl * sqrt(a2 + (1.0 - a2) * nv * nv) + nv * sqrt(a2 + (1.0 - a2) * nl * nl) + 1e-5);
  return a2 / (d * d) * v;
}

/* Karis, "Physically Based Shading on Mobile", 2014. */
vec3 mirrored(vec3 f0, float rough, float nv)
{
  vec4 r = rough * vec4(-1.0, -0.0275, -0.572, 0.022) + vec4(1.0, 0.0425, 1.04, -0.04);
  float a004 = min(r.x * r.x, exp2(-9.28 * nv)) * r.x + r.y;
  vec2 ab = vec2(-1.04, 1.04) * a004 + r.zw;
  return f0 * ab.x + ab.y;
}

vec3 around(vec3 d)
{
  return mix(scene.ground.rgb, scene.sky.rgb, smoothstep(-0.8, 0.9, d.z));
}

/* Occlusion tinted by what the neighbourhood throws back: Jimenez et al., "Practical Realtime Strategies for
   Accurate Indirect Occlusion", 2016. */
vec3 bounced(float visible, vec3 albedo)
{
  vec3 a = 2.0404 * albedo - 0.3324, b = -4.7951 * albedo + 0.6417, c = 2.7552 * albedo + 0.6903;
  return max(vec3(visible), ((visible * a + b) * visible + c) * visible);
}
"""
)

HEAD_FRAGMENT = (
    TONE
    + LIGHTING
    + """
void main()
{
  vec4 base = surface.base;
  if (surface.use.x > 0.5) {
    vec4 texel = texture(base_image, v_uv);
    base *= vec4(texel.rgb, (surface.use.x > 1.5) ? texel.a : 1.0);
  }
  if (surface.use.y > 0.5) {
    base.rgb *= v_colour;
  }
  if (paint.x > 0.5 && base.a < 0.6) {
    discard;
  }
  vec3 v = normalize(scene.eye.xyz - v_place * scene.eye.w);
  vec3 smoothed = normalize(v_normal);
  float visible = v_visible.x;
  if (dot(smoothed, v) < 0.0 && gl_FrontFacing != (v_flip > 0.0)) {
    smoothed = -smoothed;
    visible = v_visible.y;
  }
  vec3 n = smoothed;
  if (surface.use.z > 0.5) {
    vec3 t = normalize(v_tangent.xyz - smoothed * dot(v_tangent.xyz, smoothed));
    vec3 b = cross(smoothed, t) * v_tangent.w;
    vec3 bend = texture(normal_image, v_uv).xyz * 2.0 - 1.0;
    bend.xy *= surface.use.w;
    n = normalize(t * bend.x + b * bend.y + smoothed * max(bend.z, 0.05));
  }
  float rough = surface.gloss.x;
  if (surface.relief.y > 0.0) {
    /* Grain that is finer than a pixel would only glitter. */
    float pixel = length(fwidth(v_rest)) * surface.relief.x;
    float fade = clamp(1.2 - pixel, 0.0, 1.0);
    vec3 slope = noise(v_rest * surface.relief.x).xyz + 0.5 * noise(v_rest * surface.relief.x * 2.3).xyz;
    n = normalize(n - slope * min(surface.relief.y * surface.relief.z * surface.relief.x, 0.25) * fade);
  }
  float nv = max(dot(n, v), 1e-3);
#ifdef HAIR
  visible = mix(visible, 1.0, 0.3);
#endif
  float specular = surface.gloss.z;
  vec3 albedo = base.rgb * (1.0 - surface.gloss.y);
  vec3 f0 = mix(vec3(0.08 * specular), base.rgb, surface.gloss.y);
#ifdef EYE
  float coat = max(surface.gloss.w, 0.6);
  visible = mix(visible, 1.0, 0.15);
#elif defined(TEETH)
  float coat = max(surface.gloss.w, 0.35);
#else
  float coat = surface.gloss.w;
#endif
  float coat_rough = max(surface.glow.w, 0.02);
  vec3 diffuse = vec3(0.0), shine = vec3(0.0);
#ifdef SKIN
  vec3 wrap = surface.scatter.rgb * clamp(surface.scatter.w * 2.5, 0.0, 1.0) * 0.38;
#endif
  int count = int(scene.options.x);
  for (int i = 0; i < count; i++) {
    vec4 place = scene.light_place[i];
    vec4 aim = scene.light_aim[i];
    vec3 to = (place.w < 0.5) ? place.xyz : place.xyz - v_place;
    float reach = (place.w < 0.5) ? 1.0 : length(to);
    vec3 l = to / max(length(to), 1e-6);
    float radius = scene.light_colour[i].w / max(reach, 1e-4);
    float strength = 1.0 / max(reach * reach, 1e-4);
    if (place.w > 0.5 && place.w < 1.5) {
      strength *= clamp(dot(-l, aim.xyz), 0.0, 1.0);
    }
    if (place.w > 1.5 && aim.w > -0.99) {
      strength *= smoothstep(aim.w, mix(aim.w, 1.0, 0.15), dot(-l, aim.xyz));
    }
    vec3 colour = scene.light_colour[i].rgb * strength;
    float shade = 1.0;
    if (i < SHADOWS) {
      shade = lit(i, v_place, smoothed, dot(smoothed, l));
    }
    /* A light without a shadow must not shine into the mouth, nor through the hair onto the temples. */
    bool casts = i < SHADOWS && scene.shadow[min(i, SHADOWS - 1)].x > 0.0;
    shade *= casts ? mix(smoothstep(0.0, 0.25, visible), 1.0, 0.5) : smoothstep(0.3, 0.9, visible);
    float nl = dot(n, l);
    float soft = clamp(radius * 0.5, 0.0, 0.6);
#ifdef SKIN
    float bent = dot(normalize(mix(smoothed, n, 0.5)), l);
    vec3 w = wrap + soft * 0.6;
    vec3 round_off = clamp((vec3(bent) + w) / (1.0 + w), 0.0, 1.0);
    round_off = pow(round_off, vec3(1.0) + w) * (1.0 + 0.25 * w);
    /* Light that bleeds in from the lit side reddens a shadow's edge. */
    vec3 bleed = vec3(1.0) - 0.55 * surface.scatter.rgb * clamp(surface.scatter.w * 3.0, 0.0, 1.0);
    diffuse += colour * round_off * pow(vec3(max(shade, 0.02)), bleed);
#elif defined(HAIR)
    float fill = clamp((nl + 0.35) / 1.35, 0.0, 1.0);
    diffuse += colour * fill * fill * shade;
#elif defined(TEETH)
    /* Enamel lets light in: no hard edge to the shadow, and a warm tone where it comes out again. */
    float through = clamp((nl + 0.4) / 1.4, 0.0, 1.0);
    vec3 ivory = mix(vec3(1.0, 0.86, 0.68), vec3(1.0), clamp(nl * 1.5, 0.0, 1.0));
    diffuse += colour * ivory * through * through * mix(shade, 1.0, 0.12);
#else
    diffuse += colour * clamp((nl + soft * 0.5) / (1.0 + soft * 0.5), 0.0, 1.0) * shade;
#endif
    float lit_side = clamp(nl, 0.0, 1.0);
    vec3 h = normalize(l + v);
    float nh = clamp(dot(n, h), 0.0, 1.0);
    vec3 fresnel = f0 + (1.0 - f0) * pow(1.0 - clamp(dot(v, h), 0.0, 1.0), 5.0);
    float a = max(rough * rough, 0.002);
    /* A light's own size widens its reflection; Karis, "Real Shading in Unreal Engine 4", 2013. */
    float wide = clamp(a + radius * 0.35, 0.0, 1.0);
#ifdef HAIR
    vec3 strand = normalize(v_tangent.xyz - n * dot(v_tangent.xyz, n));
    strand = normalize(cross(n, strand) + n * 0.12);
    float th = dot(strand, h);
    float band = pow(sqrt(max(1.0 - th * th, 0.0)), 1.0 / max(a * 0.5, 0.004));
    shine += colour * shade * smoothstep(-0.2, 0.5, nl) * band * (vec3(0.10) + 0.9 * base.rgb) * specular * 0.9;
#elif defined(SKIN)
    float lobes = 0.8 * ggx(nh, lit_side, nv, wide) * (a * a) / (wide * wide);
    float fine = max(a * 0.42, 0.002), fine_wide = clamp(fine + radius * 0.35, 0.0, 1.0);
    lobes += 0.2 * ggx(nh, lit_side, nv, fine_wide) * (fine * fine) / (fine_wide * fine_wide);
    float energy = (wide * wide) / (a * a) * 0.55 + 0.45;
    shine += colour * shade * lit_side * fresnel * lobes * min(energy, 3.0);
#else
    shine += colour * shade * lit_side * fresnel * ggx(nh, lit_side, nv, wide);
#endif
    if (coat > 0.0) {
      float ca = max(coat_rough * coat_rough, 0.001);
      float cn = clamp(dot(smoothed, h), 0.0, 1.0), cl = clamp(dot(smoothed, l), 0.0, 1.0);
#ifdef EYE
      /* A lamp's mirror image on the wet eye: a disk as large as the lamp, so bright that it is white. The cornea
         bulges, which brings lamps nearer the middle of the iris and makes them smaller than the ball would. */
      vec3 bulged = normalize(smoothed + BULGE * (smoothed - v * dot(smoothed, v)));
      float off = acos(clamp(dot(reflect(-v, bulged), l), -1.0, 1.0));
      float angle = atan(radius) * 0.7 + 0.03;
      float disk = 1.0 - smoothstep(angle * 0.85, angle * 1.1 + 0.02, off);
      /* The lids' shadow dims it, and no more: photographers take care that it is there. */
      float spread = clamp(0.03 / (angle * angle), 0.15, 1.0);
      vec3 spark = CATCH * colour + 0.4 * colour / max(max(colour.r, max(colour.g, colour.b)), 1e-3);
      shine += spark * spread * mix(shade, 1.0, 0.5) * disk * smoothstep(-0.2, 0.2, dot(smoothed, l));
#else
      float cw = clamp(ca + radius * 0.35, 0.0, 1.0);
      float cf = 0.04 + 0.96 * pow(1.0 - clamp(dot(v, h), 0.0, 1.0), 5.0);
      shine += colour * shade * cl * coat * cf * ggx(cn, cl, nv, cw);
#endif
    }
    if (surface.relief.w > 0.0) {
      diffuse += colour * shade * surface.relief.w * pow(1.0 - nv, 4.0) * clamp(nl + 0.3, 0.0, 1.0) * 0.5;
    }
  }
  vec3 inward = bounced(visible, albedo);
#ifdef SKIN
  inward = pow(inward, vec3(1.0) - 0.35 * surface.scatter.rgb * clamp(surface.scatter.w * 3.0, 0.0, 1.0));
#endif
  vec3 result = albedo * (diffuse + around(smoothed) * inward) + shine;
  vec3 r = reflect(-v, n);
  float dim = clamp(pow(nv + visible, exp2(-16.0 * rough - 1.0)) - 1.0 + visible, 0.0, 1.0);
  float gloss = 1.0;
#ifdef HAIR
  gloss = 0.35;
#endif
  result += around(r) * mirrored(f0, rough, nv) * dim * gloss;
  if (coat > 0.0) {
    float nc = max(dot(smoothed, v), 1e-3);
    result += around(reflect(-v, smoothed)) * coat * (0.04 + 0.96 * pow(1.0 - nc, 5.0)) * visible;
  }
  result += surface.glow.rgb;
  /* What is drawn as solid hides what lies behind. */
  float alpha = (paint.x > 0.5) ? 1.0 : base.a;
#ifdef EYE
  alpha = clamp(alpha + dot(shine, vec3(0.3)), 0.0, 1.0);
#endif
  colour_out = to_frame(display(result * scene.options.z, scene.options.y), alpha);
}
"""
)

PICTURE_VERTEX = """
void main()
{
  v_uv = corner;
  gl_Position = vec4(mix(area.xy, area.zw, corner), 0.99999, 1.0);
}
"""

PICTURE_FRAGMENT = (
    TONE
    + """
void main()
{
  vec4 c;
  if (paint.x < 0.5) {
    float far = length((v_uv - vec2(0.5, 0.56)) * vec2(paint.z, 1.0)) / 0.95;
    float t = smoothstep(0.0, 1.0, clamp(far, 0.0, 1.0));
    /* Steps of one 255th would show as rings. */
    float grain = fract(52.9829189 * fract(dot(gl_FragCoord.xy, vec2(0.06711056, 0.00583715)))) - 0.5;
    c = mix(first, second, t);
    c.rgb *= 1.0 + 0.012 * grain;
  }
  else {
    vec2 at = (paint.x > 1.5) ? vec2(v_uv.x, 1.0 - v_uv.y) : v_uv;
    c = texture(picture, at);
    if (paint.w > 0.5) {
      c.rgb = linear(c.rgb);
    }
  }
  /* What needs no curve is a picture of heads; others are shown whatever their alpha. */
  colour_out = (paint.y > 0.5) ? to_frame(display(c.rgb, paint.y), c.a) : layer_to_frame(c);
}
"""
)

PARTICLE_VERTEX = (
    HASH
    + """
void main()
{
  float i = corner.z;
  float kind = anchor.w;
  uint number = scramble(uint(i));
  float turn = params.x / params.y + unit(number);
  float t = fract(turn);
  /* Every life has other numbers, so that no particle repeats itself. */
  uint life = scramble(number + uint(floor(turn)));
  uint second = scramble(life), third = scramble(second);
  float a = unit(life), b = unit(second), c = unit(third);
  float side = (mod(i, 2.0) < 0.5) ? 1.0 : -1.0;
  vec3 p = anchor.xyz;
  float size = params.z * mix(0.7, 1.3, a);
  float fade = smoothstep(0.0, 0.12, t) * (1.0 - smoothstep(0.75, 1.0, t));
  float spin = 0.0;
  if (kind < 0.5) {
    float fall = t * t;
    p += vec3(0.10 * b + 0.16 * t, 0.16 * sin(min(t * 2.2, 1.57)) + 0.05, -1.75 * fall);
    size *= smoothstep(0.0, 0.25, t);
  }
  else if (kind < 1.5) {
    float angle = mix(-0.9, 1.5, b);
    float r = mix(1.45, 2.5, c);
    p = vec3(r * cos(angle), mix(-0.6, 0.5, a), r * 0.95 * sin(angle) + 0.25 * t);
    fade = sin(3.14159 * t);
    fade *= fade;
    size *= fade;
    spin = (a - 0.5) * 0.8;
  }
  else if (kind < 2.5) {
    p += vec3(1.7 * t + 0.25 * t * sin(6.0 * t + 6.28 * a), (b - 0.5) * 0.4, 0.15 + 1.1 * t * t + (c - 0.5) * 0.35 * t);
    size *= mix(0.25, 1.5, t);
    fade = smoothstep(0.0, 0.1, t) * (1.0 - t) * (1.0 - t) * 1.6;
    spin = 6.28 * a + t;
  }
  else if (kind < 3.5) {
    p += vec3(0.35 * (b - 0.5) + 0.12 * t, 0.08, 0.35 * c - 0.75 * t * t * t);
    size *= smoothstep(0.0, 0.3, t);
  }
  else {
    p += vec3(0.9 * b + 0.18 * sin(5.0 * t + 6.28 * a), 0.3 * (c - 0.5), -0.9 + 2.6 * t);
    size *= smoothstep(0.0, 0.25, t) * mix(0.7, 1.25, c);
    spin = 0.25 * sin(5.0 * t + 6.28 * b);
  }
  p.x *= side;
  vec3 place = (frame * vec4(p, 1.0)).xyz;
  vec3 toward = normalize(scene.eye.xyz - place * scene.eye.w);
  vec3 right = normalize(cross(vec3(0.0, 0.0, 1.0), toward) + vec3(1e-6, 0.0, 0.0));
  vec3 up = cross(toward, right);
  float reach = size * length(frame[0].xyz) * step(unit(scramble(number + 7919u)), params.w);
  vec2 q = mat2(cos(spin), sin(spin), -sin(spin), cos(spin)) * corner.xy;
  v_corner = corner.xy;
  v_shade = vec4(a, b, kind, fade);
  gl_Position = scene.view_projection * vec4(place + (right * q.x + up * q.y) * reach, 1.0);
}
"""
)

PARTICLE_FRAGMENT = (
    TONE
    + """
void main()
{
  vec2 q = v_corner;
  vec4 c = tint;
  float kind = v_shade.z;
  if (kind < 0.5 || (kind > 2.5 && kind < 3.5)) {
    /* A drop: round below, pointed above, bright at its rim and where the light sits. */
    float wide = 0.62 * sqrt(max(1.0 - q.y * q.y, 0.0)) * (0.5 - 0.5 * q.y + 0.12);
    float d = abs(q.x) / max(wide, 1e-3);
    float inside = 1.0 - smoothstep(0.8, 1.0, d);
    float rim = smoothstep(0.3, 1.0, d);
    float spark = 1.0 - smoothstep(0.10, 0.24, length((q - vec2(-0.16, -0.35)) * vec2(1.0, 0.7)));
    c.rgb = mix(c.rgb * 0.75, c.rgb * 1.25, rim) + vec3(1.6) * spark;
    c.a *= inside * mix(0.45, 1.0, max(rim, spark)) * smoothstep(1.0, 0.9, abs(q.y));
  }
  else if (kind < 1.5) {
    vec2 s = abs(q);
    float star = max(0.0, 1.0 - pow(pow(s.x, 0.5) + pow(s.y, 0.5), 2.0));
    float glow = pow(max(1.0 - length(q), 0.0), 3.0);
    c.rgb = c.rgb * 1.5 + vec3(1.5) * star * star;
    c.a *= clamp(2.2 * star + 0.35 * glow, 0.0, 1.0);
  }
  else if (kind < 2.5) {
    float r = length(q + 0.12 * vec2(sin(5.0 * q.y + 20.0 * v_shade.x), sin(6.0 * q.x + 20.0 * v_shade.y)));
    c.a *= pow(max(1.0 - r, 0.0), 1.4);
    c.rgb *= mix(0.75, 1.1, 0.5 + 0.5 * q.y);
  }
  else {
    /* Quilez, "2D distance functions", MIT licence. */
    vec2 h = vec2(abs(q.x), q.y + 0.95) * 0.6;
    vec2 lobe = h - vec2(0.25, 0.75), edge = h - 0.5 * max(h.x + h.y, 0.0), top = h - vec2(0.0, 1.0);
    float d = (h.x + h.y > 1.0) ? length(lobe) - 0.35355 : sqrt(min(dot(top, top), dot(edge, edge))) * sign(h.x - h.y);
    float inside = 1.0 - smoothstep(-0.02, 0.03, d);
    float light = 1.0 - smoothstep(0.05, 0.3, length(q - vec2(-0.36, 0.36)));
    c.rgb = c.rgb * mix(0.65, 1.15, 0.5 + 0.5 * q.y) + vec3(0.8, 0.55, 0.6) * light * 0.7;
    c.a *= inside;
  }
  c.a *= clamp(v_shade.w, 0.0, 1.0);
  if (c.a < 0.004) {
    discard;
  }
  colour_out = to_frame(display(c.rgb * scene.options.z, scene.options.y), c.a);
}
"""
)

OVER_VERTEX = "void main() { gl_Position = vec4(corner * 2.0 - 1.0, 0.0, 1.0); v_uv = corner; }"

OVER_FRAGMENT = (
    TONE
    + """
void main()
{
  ivec2 at = 2 * ivec2(v_uv * vec2(textureSize(picture, 0) / 2));
  vec4 sum = vec4(0.0);
  float depth = 1.0;
  for (int i = 0; i < 4; i++) {
    ivec2 texel = at + ivec2(i % 2, i / 2);
    sum += texelFetch(picture, texel, 0);
    depth = min(depth, texelFetch(depths, texel, 0).x);
  }
  sum *= 0.25;
  if (sum.a < 0.002) {
    discard;
  }
  colour_out = layer_to_frame(sum);
  gl_FragDepth = depth;
}
"""
)


def _info() -> gpu.types.GPUShaderCreateInfo:
    return gpu.types.GPUShaderCreateInfo()


def _fusion_inputs(info, with_normals: bool) -> None:
    info.vertex_in(0, "VEC3", "position")
    info.vertex_in(1, "VEC3", "normal")
    info.vertex_in(2, "IVEC4", "row")
    info.sampler(0, "FLOAT_2D", "fusion")
    info.sampler(1, "FLOAT_2D", "slopes")
    info.sampler(2, "FLOAT_2D", "state")
    if with_normals:
        info.define("WITH_NORMALS", "1")


@cache
def head(kind: str) -> gpu.types.GPUShader:
    """Return the shader of one kind of surface (`looks.KINDS`)."""
    info = _info()
    info.define(kind.upper(), "1")
    info.typedef_source(SCENE + SURFACE)
    info.uniform_buf(0, "Scene", "scene")
    info.uniform_buf(1, "Surface", "surface")
    _fusion_inputs(info, True)
    info.vertex_in(3, "VEC3", "tangent")
    info.vertex_in(4, "VEC2", "uv")
    info.vertex_in(5, "VEC4", "colour")
    info.vertex_in(6, "VEC2", "occlusion")
    info.sampler(3, "FLOAT_2D", "base_image")
    info.sampler(4, "FLOAT_2D", "normal_image")
    info.sampler(5, "FLOAT_2D", "shadow_map")
    info.push_constant("VEC4", "paint")
    info.push_constant("BOOL", "srgbTarget")  # set by Blender itself
    between = gpu.types.GPUStageInterfaceInfo("mien_head")
    between.smooth("VEC3", "v_place")
    between.smooth("VEC3", "v_rest")
    between.smooth("VEC3", "v_normal")
    between.smooth("VEC4", "v_tangent")
    between.smooth("VEC2", "v_uv")
    between.smooth("VEC3", "v_colour")
    between.smooth("VEC2", "v_visible")
    between.flat("FLOAT", "v_flip")
    info.vertex_out(between)
    info.fragment_out(0, "VEC4", "colour_out")
    info.vertex_source(HEAD_VERTEX)
    info.fragment_source(HEAD_FRAGMENT)
    return gpu.shader.create_from_info(info)


@cache
def depth() -> gpu.types.GPUShader:
    """Return the shader that writes depth as one light sees it, for shadow and occlusion."""
    info = _info()
    _fusion_inputs(info, False)
    info.push_constant("MAT4", "light")
    between = gpu.types.GPUStageInterfaceInfo("mien_depth")
    between.smooth("FLOAT", "v_depth")
    info.vertex_out(between)
    info.fragment_out(0, "VEC4", "colour_out")
    info.vertex_source(DEPTH_VERTEX)
    info.fragment_source(DEPTH_FRAGMENT)
    return gpu.shader.create_from_info(info)


@cache
def positions() -> gpu.types.GPUShader:
    """Return the shader that writes fused positions or normals to a picture, for checking."""
    info = _info()
    _fusion_inputs(info, True)
    info.push_constant("VEC4", "paint")
    between = gpu.types.GPUStageInterfaceInfo("mien_positions")
    between.flat("VEC3", "v_value")
    info.vertex_out(between)
    info.fragment_out(0, "VEC4", "colour_out")
    info.vertex_source(POSITION_VERTEX)
    info.fragment_source("void main() { colour_out = vec4(v_value, 1.0); }")
    return gpu.shader.create_from_info(info)


@cache
def picture() -> gpu.types.GPUShader:
    """Return the shader of backgrounds and of pictures laid over the view."""
    info = _info()
    info.vertex_in(0, "VEC2", "corner")
    info.sampler(0, "FLOAT_2D", "picture")
    info.push_constant("VEC4", "area")
    info.push_constant("VEC4", "first")
    info.push_constant("VEC4", "second")
    info.push_constant("VEC4", "paint")
    info.push_constant("BOOL", "srgbTarget")  # set by Blender itself
    between = gpu.types.GPUStageInterfaceInfo("mien_picture")
    between.smooth("VEC2", "v_uv")
    info.vertex_out(between)
    info.fragment_out(0, "VEC4", "colour_out")
    info.vertex_source(PICTURE_VERTEX)
    info.fragment_source(PICTURE_FRAGMENT)
    return gpu.shader.create_from_info(info)


@cache
def over() -> gpu.types.GPUShader:
    """Return the shader that lays a smoothed picture of heads, with their depth, over a view."""
    info = _info()
    info.vertex_in(0, "VEC2", "corner")
    info.sampler(0, "FLOAT_2D", "picture")
    info.sampler(1, "DEPTH_2D", "depths")
    info.push_constant("BOOL", "srgbTarget")  # set by Blender itself
    info.depth_write("ANY")
    between = gpu.types.GPUStageInterfaceInfo("mien_over")
    between.smooth("VEC2", "v_uv")
    info.vertex_out(between)
    info.fragment_out(0, "VEC4", "colour_out")
    info.vertex_source(OVER_VERTEX)
    info.fragment_source(OVER_FRAGMENT)
    return gpu.shader.create_from_info(info)


@cache
def particles() -> gpu.types.GPUShader:
    """Return the shader of all particles."""
    info = _info()
    info.typedef_source(SCENE)
    info.uniform_buf(0, "Scene", "scene")
    info.vertex_in(0, "VEC3", "corner")
    info.push_constant("MAT4", "frame")
    info.push_constant("VEC4", "anchor")
    info.push_constant("VEC4", "tint")
    info.push_constant("VEC4", "params")
    info.push_constant("BOOL", "srgbTarget")  # set by Blender itself
    between = gpu.types.GPUStageInterfaceInfo("mien_particles")
    between.smooth("VEC2", "v_corner")
    between.smooth("VEC4", "v_shade")
    info.vertex_out(between)
    info.fragment_out(0, "VEC4", "colour_out")
    info.vertex_source(PARTICLE_VERTEX)
    info.fragment_source(PARTICLE_FRAGMENT)
    return gpu.shader.create_from_info(info)


def forget() -> None:
    """Let go of every shader."""
    for maker in (head, depth, positions, picture, over, particles):
        maker.cache_clear()
