//! A function for actorflow, in Zig: batches in, outcomes out. The contract: docs/contract.md.
//!
//! Memory is an arena: what `take` gives lives until the next batch, and the next begins where this one began. So memory
//! is as large as the largest batch needs, and nothing is freed. What is no MessagePack ends in a trap.

/// What the host offers.
pub const host = struct {
    pub extern "actorflow" fn get(cell: [*]const u8, usize, key: [*]const u8, usize, into: [*]u8, room: usize) i32;
    pub extern "actorflow" fn put(cell: [*]const u8, usize, key: [*]const u8, usize, value: [*]const u8, usize) void;
    pub extern "actorflow" fn delete(cell: [*]const u8, usize, key: [*]const u8, usize) void;
    pub extern "actorflow" fn add(cell: [*]const u8, usize, key: [*]const u8, usize, value: [*]const u8, usize) void;
    pub extern "actorflow" fn remove(cell: [*]const u8, usize, key: [*]const u8, usize, value: [*]const u8, usize) void;
    pub extern "actorflow" fn clock_s() f64;
    pub extern "actorflow" fn deadline_s() f64;
    pub extern "actorflow" fn round() i32;
    pub extern "actorflow" fn request_id(into: [*]u8, room: usize) i32;
    pub extern "actorflow" fn log(text: [*]const u8, length: usize) void;
};

// -- memory

extern var __heap_base: u8; // from the linker: what lies behind is nobody's
var top: usize = 0;

pub fn take(bytes: u64) []u8 {
    const from = top;
    const end = from + ((bytes + 15) & ~@as(u64, 15));
    const have = @as(u64, @wasmMemorySize(0)) << 16;
    if (end > have and (end >> 32 != 0 or @wasmMemoryGrow(0, @intCast((end - have + 65535) >> 16)) == -1)) @trap();
    top = @intCast(end);
    return @as([*]u8, @ptrFromInt(from))[0..@intCast(bytes)];
}

export fn actorflow_alloc(bytes: u32) [*]u8 {
    top = (@intFromPtr(&__heap_base) + 15) & ~@as(usize, 15);
    return take(bytes).ptr;
}

// -- reading

/// One value; of an array or a map its head only: how many items, or pairs, come next.
pub const Value = union(enum) {
    nil,
    boolean: bool,
    integer: i64,
    positive: u64, // above what an i64 holds
    number: f64,
    text: []const u8,
    bytes: []const u8,
    array: u32,
    map: u32,
};

pub const Reader = struct {
    rest: []const u8,

    pub fn read(in: *Reader) Value {
        const tag = in.span(1)[0];
        switch (tag) {
            0x00...0x7f => return .{ .integer = tag },
            0x80...0x8f => return .{ .map = tag & 15 },
            0x90...0x9f => return .{ .array = tag & 15 },
            0xa0...0xbf => return .{ .text = in.span(tag & 31) },
            0xc0 => return .nil,
            0xc2, 0xc3 => return .{ .boolean = tag & 1 == 1 },
            0xc4 => return .{ .bytes = in.span(in.big(u8)) },
            0xc5 => return .{ .bytes = in.span(in.big(u16)) },
            0xc6 => return .{ .bytes = in.span(in.big(u32)) },
            0xca => return .{ .number = @as(f32, @bitCast(in.big(u32))) },
            0xcb => return .{ .number = @bitCast(in.big(u64)) },
            0xcc => return .{ .integer = in.big(u8) },
            0xcd => return .{ .integer = in.big(u16) },
            0xce => return .{ .integer = in.big(u32) },
            0xcf => {
                const value = in.big(u64);
                return if (value >> 63 == 1) .{ .positive = value } else .{ .integer = @intCast(value) };
            },
            0xd0 => return .{ .integer = in.big(i8) },
            0xd1 => return .{ .integer = in.big(i16) },
            0xd2 => return .{ .integer = in.big(i32) },
            0xd3 => return .{ .integer = in.big(i64) },
            0xd9 => return .{ .text = in.span(in.big(u8)) },
            0xda => return .{ .text = in.span(in.big(u16)) },
            0xdb => return .{ .text = in.span(in.big(u32)) },
            0xdc => return .{ .array = in.big(u16) },
            0xdd => return .{ .array = in.big(u32) },
            0xde => return .{ .map = in.big(u16) },
            0xdf => return .{ .map = in.big(u32) },
            0xe0...0xff => return .{ .integer = @as(i8, @bitCast(tag)) },
            else => @trap(),
        }
    }

    /// Pass over one value with all that is in it, and return where it lies.
    pub fn skip(in: *Reader) []const u8 {
        const from = in.rest;
        var left: u64 = 1;
        while (left > 0) : (left -= 1) switch (in.read()) {
            .array => |count| left += count,
            .map => |count| left += 2 * @as(u64, count),
            else => {},
        };
        return from[0 .. from.len - in.rest.len];
    }

    fn span(in: *Reader, length: usize) []const u8 {
        if (length > in.rest.len) @trap();
        defer in.rest = in.rest[length..];
        return in.rest[0..length];
    }

    fn big(in: *Reader, comptime T: type) T {
        var value: u64 = 0;
        for (in.span(@sizeOf(T))) |byte| value = value << 8 | byte;
        const Unsigned = @Int(.unsigned, @bitSizeOf(T));
        return @bitCast(@as(Unsigned, @intCast(value)));
    }
};

// -- writing: everything in its shortest form

pub const Verb = enum(u8) { items, reply, feedback, fail, log, put, delete, add, remove };

pub const Writer = struct {
    buffer: []u8 = &.{},
    used: usize = 0,

    pub fn raw(out: *Writer, value: []const u8) void {
        out.room(value.len);
        @memcpy(out.buffer[out.used..][0..value.len], value);
        out.used += value.len;
    }

    pub fn nil(out: *Writer) void {
        out.head(0xc0, 0, 0);
    }

    pub fn boolean(out: *Writer, value: bool) void {
        out.head(if (value) 0xc3 else 0xc2, 0, 0);
    }

    pub fn positive(out: *Writer, value: u64) void {
        if (value < 0x80) out.head(@intCast(value), 0, 0) else out.sized(0xcc, value, 1);
    }

    pub fn integer(out: *Writer, value: i64) void {
        const bits: u64 = @bitCast(value);
        if (value >= 0) return out.positive(bits);
        if (value >= -32) return out.head(@truncate(bits), 0, 0);
        if (value >= -0x80) return out.head(0xd0, bits, 1);
        if (value >= -0x8000) return out.head(0xd1, bits, 2);
        if (value >= -0x80000000) return out.head(0xd2, bits, 4);
        out.head(0xd3, bits, 8);
    }

    pub fn number(out: *Writer, value: f64) void {
        out.head(0xcb, @bitCast(value), 8);
    }

    pub fn text(out: *Writer, value: []const u8) void {
        if (value.len < 32) out.head(0xa0 | @as(u8, @intCast(value.len)), 0, 0) else out.sized(0xd9, value.len, 1);
        out.raw(value);
    }

    pub fn bytes(out: *Writer, value: []const u8) void {
        out.sized(0xc4, value.len, 1);
        out.raw(value);
    }

    pub fn array(out: *Writer, count: u32) void {
        if (count < 16) out.head(0x90 | @as(u8, @intCast(count)), 0, 0) else out.sized(0xdc, count, 2);
    }

    pub fn map(out: *Writer, count: u32) void {
        if (count < 16) out.head(0x80 | @as(u8, @intCast(count)), 0, 0) else out.sized(0xde, count, 2);
    }

    /// Begin an outcome with one verb; its argument is written next.
    pub fn verb(out: *Writer, what: Verb) void {
        out.array(2);
        out.positive(@intFromEnum(what));
    }

    /// What a function returns: where its outcomes lie.
    pub fn give(out: *const Writer) u64 {
        return @as(u64, @intFromPtr(out.buffer.ptr)) << 32 | out.used;
    }

    pub fn written(out: *const Writer) []const u8 {
        return out.buffer[0..out.used];
    }

    /// A tag of the first of the sizes that come after one another: 1, 2, 4 and 8 bytes, or from 2 on.
    fn sized(out: *Writer, tag: u8, value: u64, smallest: u8) void {
        var size = smallest;
        var this = tag;
        while (size < 8 and value >> @as(u6, @intCast(8 * size)) != 0) : (size *= 2) this += 1;
        out.head(this, value, size);
    }

    fn head(out: *Writer, tag: u8, value: u64, size: u8) void {
        out.room(9);
        out.buffer[out.used] = tag;
        out.used += 1;
        var left = size;
        while (left > 0) : (out.used += 1) {
            left -= 1;
            out.buffer[out.used] = @truncate(value >> @as(u6, @intCast(8 * left)));
        }
    }

    fn room(out: *Writer, more: usize) void {
        if (more <= out.buffer.len - out.used) return;
        const size = 2 * out.used + more + 256;
        const larger = take(size);
        @memcpy(larger[0..out.used], out.buffer[0..out.used]);
        out.buffer = larger;
    }
};

/// Give each item of a batch to a function that writes its outcome, and return where the outcomes lie.
pub fn each(batch: [*]const u8, length: usize, comptime outcome: fn (*Writer, *Reader) void) u64 {
    var in = Reader{ .rest = batch[0..length] };
    var out = Writer{};
    var left = in.read().array;
    out.array(left);
    while (left > 0) : (left -= 1) outcome(&out, &in);
    return out.give();
}
