//! A function for actorflow: the number of words of each line. The contract: docs/contract.md.
//!
//! The batch is kept until the next one, and so are the outcomes: two buffers that grow to the largest, and nothing else.

use std::cell::UnsafeCell;

struct Room(UnsafeCell<(Vec<u8>, Vec<u8>)>);
unsafe impl Sync for Room {} // a guest has one thread
static ROOM: Room = Room(UnsafeCell::new((Vec::new(), Vec::new())));

#[link(wasm_import_module = "actorflow")]
extern "C" {
    fn log(text: *const u8, length: usize);
}

#[no_mangle]
pub extern "C" fn actorflow_alloc(bytes: usize) -> *mut u8 {
    let (batch, _) = unsafe { &mut *ROOM.0.get() };
    batch.clear();
    batch.resize(bytes, 0);
    batch.as_mut_ptr()
}

/// `(pointer: i32, length: i32) -> i64`, as the contract wants it.
#[no_mangle]
pub extern "C" fn count(pointer: *const u8, length: usize) -> u64 {
    let (_, out) = unsafe { &mut *ROOM.0.get() };
    let mut rest = unsafe { std::slice::from_raw_parts(pointer, length) };
    out.clear();
    let items = head(&mut rest, 0x90, 15, 0xdc, 2);
    write_head(out, 0x90, 15, 0xdc, items);
    for _ in 0..items {
        let bytes = head(&mut rest, 0xa0, 31, 0xd9, 1);
        let (line, after) = rest.split_at(bytes);
        rest = after;
        match std::str::from_utf8(line) {
            Ok(text) => write_number(out, text.split_whitespace().count()),
            Err(_) => {
                let said = "a line that is no text";
                unsafe { log(said.as_ptr(), said.len()) };
                out.extend([0x92, 3]); // verb 3: an error
                write_head(out, 0xa0, 31, 0xd9, said.len());
                out.extend(said.as_bytes());
            }
        }
    }
    (out.as_ptr() as u64) << 32 | out.len() as u64
}

/// Read the head of an array or a text: a short form with its length in the tag, or 1, 2 and 4 bytes behind it.
fn head(rest: &mut &[u8], short: u8, most: u8, long: u8, smallest: usize) -> usize {
    let tag = rest[0];
    *rest = &rest[1..];
    if tag & !most == short {
        return (tag & most) as usize;
    }
    let size = smallest << (tag - long);
    let (bytes, after) = rest.split_at(size);
    *rest = after;
    bytes.iter().fold(0, |length, byte| length << 8 | *byte as usize)
}

fn write_head(out: &mut Vec<u8>, short: u8, most: usize, long: u8, length: usize) {
    let smallest = if long == 0xdc { 2 } else { 1 };
    match length {
        _ if length <= most => out.push(short | length as u8),
        _ if smallest == 1 && length < 256 => out.extend([long, length as u8]),
        _ if length < 65_536 => {
            out.push(long + (smallest == 1) as u8);
            out.extend((length as u16).to_be_bytes());
        }
        _ => {
            out.push(long + 1 + (smallest == 1) as u8);
            out.extend((length as u32).to_be_bytes());
        }
    }
}

fn write_number(out: &mut Vec<u8>, value: usize) {
    match value {
        0..=127 => out.push(value as u8),
        128..=255 => out.extend([0xcc, value as u8]),
        256..=65_535 => {
            out.push(0xcd);
            out.extend((value as u16).to_be_bytes());
        }
        _ => {
            out.push(0xce);
            out.extend((value as u32).to_be_bytes());
        }
    }
}
