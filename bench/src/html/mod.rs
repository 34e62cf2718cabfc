//! One page with plots that needs nothing else: no network, no script, no font. The plots are SVG
//! written here; colours are the page's, light or dark as the reader's system is.

mod comparison;
mod page;
mod plot;
mod plots;

pub use comparison::comparison;
pub use page::page;
