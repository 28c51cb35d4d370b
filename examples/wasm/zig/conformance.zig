//! The commands of examples/wasm/conformance.md.

const std = @import("std");
const af = @import("actorflow.zig");
const host = af.host;

export fn process(batch: [*]const u8, length: usize) u64 {
    return af.each(batch, length, answer);
}

const Command = enum {
    echo, bare, nothing, several, reply, collatz, trips, @"error", typed_error, log, host_log, put, delete, add, remove,
    host_put, host_delete, host_add, host_remove, get, room, sum, put_then_error, clock, deadline, request_id, trap, spin,
};

fn answer(out: *af.Writer, in: *af.Reader) void {
    _ = in.read(); // an array of two
    const word = in.read().text;
    var parts = in.*;
    const argument = in.skip();
    var whole = af.Reader{ .rest = argument };
    const command = std.meta.stringToEnum(Command, word) orelse return fail(out, "no such command");
    switch (command) {
        .echo => {
            item(out);
            copy(out, &whole);
        },
        .bare => copy(out, &whole),
        .nothing => out.nil(),
        .several => {
            const count = parts.read().integer;
            out.verb(.items);
            out.array(@intCast(count));
            var n: i64 = 0;
            while (n < count) : (n += 1) out.integer(n);
        },
        .reply => verb(out, .reply, argument),
        .typed_error => verb(out, .fail, argument),
        .log => verb(out, .log, argument),
        .put => verb(out, .put, argument),
        .delete => verb(out, .delete, argument),
        .add => verb(out, .add, argument),
        .remove => verb(out, .remove, argument),
        .collatz => {
            _ = parts.read();
            const n = parts.read().integer;
            collatz(out, n, parts.read().integer);
        },
        .trips => trips(out, parts.read().integer),
        .@"error" => {
            out.array(4);
            out.positive(@intFromEnum(af.Verb.items));
            out.array(1);
            out.text("dropped");
            out.positive(@intFromEnum(af.Verb.fail));
            out.raw(argument);
        },
        .host_log => {
            const text = parts.read().text;
            host.log(text.ptr, text.len);
            out.nil();
        },
        .clock => {
            item(out);
            out.number(host.clock_s());
        },
        .deadline => {
            item(out);
            out.number(host.deadline_s());
        },
        .request_id => {
            const into = af.take(256);
            item(out);
            out.text(into[0..@intCast(host.request_id(into.ptr, into.len))]);
        },
        .trap => @trap(),
        .spin => {
            var n: u32 = 0;
            while (true) @as(*volatile u32, &n).* +%= 1;
        },
        else => ofCell(out, command, argument, &parts),
    }
}

/// The commands about a cell: its name, a key, and mostly a value.
fn ofCell(out: *af.Writer, command: Command, argument: []const u8, parts: *af.Reader) void {
    _ = parts.read();
    const cell = parts.read().text;
    const key = parts.skip();
    const value = parts.rest[0 .. @intFromPtr(argument.ptr) + argument.len - @intFromPtr(parts.rest.ptr)];
    switch (command) {
        .host_put => host.put(cell.ptr, cell.len, key.ptr, key.len, value.ptr, value.len),
        .host_delete => host.delete(cell.ptr, cell.len, key.ptr, key.len),
        .host_add => host.add(cell.ptr, cell.len, key.ptr, key.len, value.ptr, value.len),
        .host_remove => host.remove(cell.ptr, cell.len, key.ptr, key.len, value.ptr, value.len),
        .get => {
            item(out);
            return if (get(cell, key)) |found| out.raw(found) else out.text("absent");
        },
        .room => return room(out, cell, key, parts.read().integer),
        .sum => return sum(out, cell, key, parts.read().integer),
        else => { // put_then_error
            host.put(cell.ptr, cell.len, key.ptr, key.len, value.ptr, value.len);
            out.array(4);
            out.positive(@intFromEnum(af.Verb.put));
            out.raw(argument);
            out.positive(@intFromEnum(af.Verb.fail));
            return out.text("after");
        },
    }
    out.nil();
}

/// Read a value and write it anew.
fn copy(out: *af.Writer, in: *af.Reader) void {
    var inside: u64 = 0;
    switch (in.read()) {
        .nil => out.nil(),
        .boolean => |value| out.boolean(value),
        .integer => |value| out.integer(value),
        .positive => |value| out.positive(value),
        .number => |value| out.number(value),
        .text => |value| out.text(value),
        .bytes => |value| out.bytes(value),
        .array => |count| {
            out.array(count);
            inside = count;
        },
        .map => |count| {
            out.map(count);
            inside = 2 * @as(u64, count);
        },
    }
    while (inside > 0) : (inside -= 1) copy(out, in);
}

/// Begin an outcome of one item.
fn item(out: *af.Writer) void {
    out.verb(.items);
    out.array(1);
}

fn verb(out: *af.Writer, what: af.Verb, argument: []const u8) void {
    out.verb(what);
    out.raw(argument);
}

fn fail(out: *af.Writer, text: []const u8) void {
    out.verb(.fail);
    out.text(text);
}

fn collatz(out: *af.Writer, n: i64, so_far: i64) void {
    if (n == 1) {
        item(out);
        return out.integer(so_far);
    }
    out.verb(.feedback);
    out.array(2);
    out.text("collatz");
    out.array(2);
    out.integer(if (@mod(n, 2) == 1) 3 * n + 1 else @divExact(n, 2));
    out.integer(so_far + 1);
}

fn trips(out: *af.Writer, n: i64) void {
    if (host.round() >= n) {
        item(out);
        return out.integer(host.round());
    }
    out.verb(.feedback);
    out.array(2);
    out.text("trips");
    out.integer(n);
}

/// Return what a cell has under a key, in memory of this batch.
fn get(cell: []const u8, key: []const u8) ?[]const u8 {
    var size: usize = 16;
    while (true) {
        const into = af.take(size);
        const length = host.get(cell.ptr, cell.len, key.ptr, key.len, into.ptr, into.len);
        if (length < 0) return null;
        if (length <= size) return into[0..@intCast(length)];
        size = @intCast(length);
    }
}

fn room(out: *af.Writer, cell: []const u8, key: []const u8, size: i64) void {
    const into = af.take(@intCast(size));
    @memset(into, 0xc1); // in no MessagePack
    const length = host.get(cell.ptr, cell.len, key.ptr, key.len, into.ptr, into.len);
    item(out);
    out.array(2);
    out.integer(length);
    out.boolean(!std.mem.allEqual(u8, into, 0xc1));
}

fn sum(out: *af.Writer, cell: []const u8, key: []const u8, more: i64) void {
    var total = more;
    if (get(cell, key)) |found| {
        var in = af.Reader{ .rest = found };
        total += in.read().integer;
    }
    var written = af.Writer{};
    written.integer(total);
    const value = written.written();
    host.put(cell.ptr, cell.len, key.ptr, key.len, value.ptr, value.len);
    item(out);
    out.array(2);
    out.raw(key);
    out.raw(value);
}
